-- Looks tasks up.
-- ARGV: ids. Answers of each: state, time, lease, worker, envelope, result, progress.
local keys = {tasks = KEYS[1], urgent = KEYS[2], scheduled = KEYS[3], retry = KEYS[4], archived = KEYS[5],
  completed = KEYS[6], active = KEYS[7], aggregating = KEYS[8]}
local results, progress, meta = KEYS[9], KEYS[10], KEYS[11]
local states, times, leases, bodies = places(keys, ARGV)
local answer = {}
for i, id in ipairs(ARGV) do
  local at = 7 * (i - 1)
  local state, lease = states[i], leases[i]
  answer[at + 1], answer[at + 2], answer[at + 3] = state, times[i] or '', lease or ''
  answer[at + 4] = lease and redis.call('HGET', meta, 'w:' .. lease:sub(1, 8)) or ''
  answer[at + 5] = bodies[i] or ''
  answer[at + 6] = state == 'completed' and redis.call('HGET', results, id) or false
  answer[at + 7] = state == 'active' and redis.call('HGET', progress, id) or false
end
return answer
