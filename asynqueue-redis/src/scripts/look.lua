-- Looks up tasks. Returns for each, up to this many bytes of envelopes and results: state, time, lease, worker,
-- envelope, result, progress, and more: since when a pending task has been pending ('' since it was enqueued), the
-- limits and member of an aggregating one.
local room, results_bytes = tonumber(bytes), 0
local bodies, count = read(tasks, {unpack(ARGV, ROWS)}, room)
local ids = {unpack(ARGV, ROWS, ROWS + count - 1)}
local states, times, leased = places(keys, ids, bodies)
local answer, times_differ = {}, redis.call('EXISTS', since) == 1
for i, id in ipairs(ids) do
  local at = 8 * (i - 1)
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
  answer[at + 8] = times_differ and state == 'pending' and redis.call('HGET', since, id) or
    state == 'aggregating' and redis.call('HGET', aggregating, id) or ''
end
return answer
