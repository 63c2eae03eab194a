-- Changes fields of a hash, all if each still is as it was seen, and sets one more.
-- ARGV: clock, field and value to set; then of each its name, value as seen ('' not there) and value to put ('' removes it).
clock(ARGV[1])
for at = 4, #ARGV, 3 do
  if (redis.call('HGET', KEYS[1], ARGV[at]) or '') ~= ARGV[at + 1] then return 0 end
end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
for at = 4, #ARGV, 3 do
  if ARGV[at + 2] == '' then
    redis.call('HDEL', KEYS[1], ARGV[at])
  else
    redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 2])
  end
end
return 1
