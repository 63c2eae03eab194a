-- Looks up tasks.
-- Returns for each, up to this many bytes of envelopes and results: state, time, lease, worker, envelope, result,
-- progress.
local room, results_bytes = tonumber(bytes), 0
local bodies, count = read(tasks, {unpack(ARGV, ROWS)}, room)
local ids = {unpack(ARGV, ROWS, ROWS + count - 1)}
local states, times, leased = places(keys, ids, bodies)
local answer = {}
for i, id in ipairs(ids) do
  local at = 7 * (i - 1)
  local state, lease = states[i], leased[i]
  local tag = lease and lease:sub(1, 8)
  local result = state == 'completed' and redis.call('HGET', results, id)
  results_bytes = results_bytes + (result and #result or 0)
  if results_bytes > room and i > 1 then break end
  answer[at + 1], answer[at + 2], answer[at + 3] = state, times[i] or '', lease or ''
  answer[at + 4] = lease and (redis.call('HGET', workers, tag) or redis.call('HGET', meta, 'w:' .. tag)) or ''
  answer[at + 5] = bodies[i] or ''
  answer[at + 6] = result or false
  answer[at + 7] = state == 'active' and redis.call('HGET', progress, id) or false
end
return answer
