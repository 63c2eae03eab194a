-- Keeps schedule entries. ARGV: of each its name, when it is due ('' never) and the entry.
local entries, due = KEYS[1], KEYS[2]
for at = 1, #ARGV, 3 do
  redis.call('HSET', entries, ARGV[at], ARGV[at + 2])
  if ARGV[at + 1] == '' then
    redis.call('ZREM', due, ARGV[at])
  else
    redis.call('ZADD', due, ARGV[at + 1], ARGV[at])
  end
end
return #ARGV / 3
