-- Archives tasks that are in no state. ARGV: clock; then of each task id, envelope as seen and envelope with the reason.
local keys = {tasks = KEYS[1], urgent = KEYS[2], scheduled = KEYS[3], retry = KEYS[4], archived = KEYS[5],
  completed = KEYS[6], active = KEYS[7], aggregating = KEYS[8], leases = KEYS[12], meta = KEYS[13]}
local pending, gone, stats = KEYS[9], KEYS[10], KEYS[11]
local now, ids, found = clock(ARGV[1]), {}, 0
for at = 2, #ARGV, 3 do ids[#ids + 1] = ARGV[at] end
local bodies = redis.call('HMGET', keys.tasks, unpack(ids))
local states, times = places(keys, ids, bodies)
for i, id in ipairs(ids) do
  local at = 2 + 3 * (i - 1)
  if states[i] == 'pending' and times[i] == '' and bodies[i] == ARGV[at + 1] then
    local entries = #redis.call('LPOS', pending, id, 'COUNT', 0)
    if entries <= tonumber(redis.call('HGET', gone, id) or 0) then
      redis.call('HSET', keys.tasks, id, ARGV[at + 2])
      redis.call('ZADD', keys.archived, int(now), id)
      found = found + 1
    end
  end
end
if found > 0 then redis.call('HINCRBY', stats, 'repaired', found) end
return found
