-- Removes the noted expiry of missing locks.
clock(not_after)
local gone = {}
for i, held in ipairs(redis.call('HMGET', locks, unpack(ARGV, ROWS))) do
  if not held then gone[#gone + 1] = ARGV[ROWS + i - 1] end
end
if #gone > 0 then redis.call('ZREM', lock_ends, unpack(gone)) end
return #gone
