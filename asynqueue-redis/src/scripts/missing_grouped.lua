-- Takes tasks out of their groups that are not there. ARGV: ids.
local keys = {aggregating = KEYS[1], grouped = KEYS[2], groups = KEYS[3]}
local tasks, stats, missing = KEYS[4], KEYS[5], {}
for i, envelope in ipairs(redis.call('HMGET', tasks, unpack(ARGV))) do
  if not envelope then missing[#missing + 1] = ARGV[i] end
end
if #missing == 0 then return 0 end
local count = leave(keys, missing)
if count > 0 then redis.call('HINCRBY', stats, 'repaired', count) end
return count
