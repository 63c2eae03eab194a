-- Takes out of a sorted set what stands for tasks that are not there. ARGV: where in an entry the id begins, then entries.
local tasks, list, stats = KEYS[1], KEYS[2], KEYS[3]
local ids, missing = {}, {}
for i = 2, #ARGV do ids[#ids + 1] = ARGV[i]:sub(tonumber(ARGV[1])) end
for i, envelope in ipairs(redis.call('HMGET', tasks, unpack(ids))) do
  if not envelope then missing[#missing + 1] = ARGV[i + 1] end
end
if #missing == 0 then return 0 end
local count = redis.call('ZREM', list, unpack(missing))
if count > 0 then redis.call('HINCRBY', stats, 'repaired', count) end
return count
