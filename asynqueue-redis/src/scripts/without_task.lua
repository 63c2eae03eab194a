-- Removes data of missing tasks.
local gone = {}
clock(not_after)
for i, envelope in ipairs(redis.call('HMGET', tasks, unpack(ARGV, ROWS))) do
  if not envelope then gone[#gone + 1] = ARGV[ROWS + i - 1] end
end
if #gone > 0 then redis.call('HDEL', kept, unpack(gone)) end
return #gone
