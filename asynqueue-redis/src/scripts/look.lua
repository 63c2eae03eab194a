-- Looks tasks up.
-- ARGV: how many bytes of envelopes, and of results, at most, then ids.
-- Answers of each, of as many as fit: state, time, lease, worker, envelope, result, progress.
local keys = {tasks = KEYS[1], urgent = KEYS[2], scheduled = KEYS[3], retry = KEYS[4], archived = KEYS[5],
  completed = KEYS[6], active = KEYS[7], aggregating = KEYS[8], meta = KEYS[11], leases = KEYS[12]}
local results, progress, meta, workers = KEYS[9], KEYS[10], KEYS[11], KEYS[13]
local room, bytes = tonumber(ARGV[1]), 0
local bodies, count = read(keys.tasks, {unpack(ARGV, 2)}, room)
local ids = {unpack(ARGV, 2, count + 1)}
local states, times, leases = places(keys, ids, bodies)
local answer = {}
for i, id in ipairs(ids) do
  local at = 7 * (i - 1)
  local state, lease = states[i], leases[i]
  local tag = lease and lease:sub(1, 8)
  local result = state == 'completed' and redis.call('HGET', results, id)
  bytes = bytes + (result and #result or 0)
  if bytes > room and i > 1 then break end
  answer[at + 1], answer[at + 2], answer[at + 3] = state, times[i] or '', lease or ''
  answer[at + 4] = lease and (redis.call('HGET', workers, tag) or redis.call('HGET', meta, 'w:' .. tag)) or ''
  answer[at + 5] = bodies[i] or ''
  answer[at + 6] = result or false
  answer[at + 7] = state == 'active' and redis.call('HGET', progress, id) or false
end
return answer
