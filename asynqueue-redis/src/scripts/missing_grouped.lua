-- Removes missing tasks from their groups.
local lost = {}
for i, envelope in ipairs(redis.call('HMGET', tasks, unpack(ARGV, ROWS))) do
  if not envelope then lost[#lost + 1] = ARGV[ROWS + i - 1] end
end
if #lost == 0 then return 0 end
local count = leave(keys, lost)
if count > 0 then redis.call('HINCRBY', stats, 'repaired', count) end
return count
