-- Removes entries of missing tasks from a sorted set. The id starts at `begins` in an entry.
local ids, lost = {}, {}
for at = ROWS, #ARGV do ids[#ids + 1] = ARGV[at]:sub(tonumber(begins)) end
for i, envelope in ipairs(redis.call('HMGET', tasks, unpack(ids))) do
  if not envelope then lost[#lost + 1] = ARGV[ROWS + i - 1] end
end
if #lost == 0 then return 0 end
local count = redis.call('ZREM', list, unpack(lost))
if count > 0 then redis.call('HINCRBY', stats, 'repaired', count) end
return count
