-- Changes fields of a hash, all if each still is as it was seen, and sets one more.
-- ARGV: clock, lane, number, field and value to set; then of each its name, value as seen ('' not there) and value to put ('' removes
-- it). Answers whether it was done, 'y' or 'n'.
local now = clock(ARGV[1])
local before = seen(KEYS[2], ARGV[2], ARGV[3])
if before then return before end
for at = 6, #ARGV, 3 do
  if (redis.call('HGET', KEYS[1], ARGV[at]) or '') ~= ARGV[at + 1] then return 'n' end
end
redis.call('HSET', KEYS[1], ARGV[4], ARGV[5])
for at = 6, #ARGV, 3 do
  if ARGV[at + 2] == '' then
    redis.call('HDEL', KEYS[1], ARGV[at])
  else
    redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 2])
  end
end
note_beside(KEYS[2], ARGV[2], ARGV[3], now, 'y')
return 'y'
