-- Forgets the ends of locks that are not there. ARGV: clock, keys of locks.
local locks, lock_ends = KEYS[1], KEYS[2]
clock(ARGV[1])
local gone = {}
for i, held in ipairs(redis.call('HMGET', locks, unpack(ARGV, 2))) do
  if not held then gone[#gone + 1] = ARGV[1 + i] end
end
if #gone > 0 then redis.call('ZREM', lock_ends, unpack(gone)) end
return #gone
