-- Moves a schedule entry on, unless it has been changed, and notes the outcome of its tick.
-- ARGV: clock, lane, number, name, the entry as seen, the entry to put in its place, when that is due ('' never), the outcome of
-- the tick, how many of these to keep. Answers whether it was done.
local entries, due, events, lanes, name = KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[4]
local now = clock(ARGV[1])
local before = seen(lanes, ARGV[2], ARGV[3])
if before then return before end
if redis.call('HGET', entries, name) ~= ARGV[5] then return 'n' end
redis.call('HSET', entries, name, ARGV[6])
if ARGV[7] == '' then
  redis.call('ZREM', due, name)
else
  redis.call('ZADD', due, ARGV[7], name)
end
redis.call('LPUSH', events, ARGV[8])
redis.call('LTRIM', events, 0, ARGV[9] - 1)
note_beside(lanes, ARGV[2], ARGV[3], now, 'y')
return 'y'
