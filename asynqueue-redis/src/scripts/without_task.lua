-- Removes what is kept of tasks that are not there. ARGV: clock, ids.
local tasks, kept = KEYS[1], KEYS[2]
local gone = {}
clock(ARGV[1])
for i, envelope in ipairs(redis.call('HMGET', tasks, unpack(ARGV, 2))) do
  if not envelope then gone[#gone + 1] = ARGV[1 + i] end
end
if #gone > 0 then redis.call('HDEL', kept, unpack(gone)) end
return #gone
