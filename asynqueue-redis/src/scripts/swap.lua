-- Puts a field of a hash in place of what it was seen as ('' not there), or removes it ('').
-- ARGV: clock, lane, number, field, value as seen, value to put. Answers whether it was done.
local hash, lanes, field, value = KEYS[1], KEYS[2], ARGV[4], ARGV[6]
local now = clock(ARGV[1])
local before = seen(lanes, ARGV[2], ARGV[3])
if before then return before end
local done = (redis.call('HGET', hash, field) or '') == ARGV[5]
if done and value == '' then
  redis.call('HDEL', hash, field)
elseif done then
  redis.call('HSET', hash, field, value)
end
note_beside(lanes, ARGV[2], ARGV[3], now, done and 'y' or 'n')
return done and 'y' or 'n'
