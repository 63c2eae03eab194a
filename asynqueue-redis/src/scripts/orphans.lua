-- Archives tasks without an entry. `seen` is the envelope as it was read, `new` the one with the reason.
local now, ids, found = clock(not_after), {}, 0
for at = ROWS, #ARGV, TASK_ROW do ids[#ids + 1] = ARGV[at + ID] end
local bodies = redis.call('HMGET', tasks, unpack(ids))
local states, times = places(keys, ids, bodies)
for i, id in ipairs(ids) do
  local at = ROWS + (i - 1) * TASK_ROW
  if states[i] == 'pending' and times[i] == '' and bodies[i] == ARGV[at + SEEN] then
    local entries = #redis.call('LPOS', pending, id, 'COUNT', 0)
    if entries <= tonumber(redis.call('HGET', gone, id) or 0) then
      redis.call('HSET', tasks, id, ARGV[at + NEW])
      redis.call('ZADD', archived, int(now), id)
      found = found + 1
    end
  end
end
if found > 0 then redis.call('HINCRBY', stats, 'repaired', found) end
return found
