-- Moves a schedule entry on, unless it has been changed, and notes the outcome of its tick.
-- ARGV: name, the entry as seen, the entry to put in its place, when that is due ('' never), the outcome of the tick, how many of
-- these to keep.
local entries, due, events = KEYS[1], KEYS[2], KEYS[3]
if redis.call('HGET', entries, ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HSET', entries, ARGV[1], ARGV[3])
if ARGV[4] == '' then
  redis.call('ZREM', due, ARGV[1])
else
  redis.call('ZADD', due, ARGV[4], ARGV[1])
end
redis.call('LPUSH', events, ARGV[5])
redis.call('LTRIM', events, 0, ARGV[6] - 1)
return 1
