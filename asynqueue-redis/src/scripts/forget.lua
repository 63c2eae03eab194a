-- Removes fields that still are as they were seen. ARGV: field, value, field, value, …
local count = 0
for at = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[at]) == ARGV[at + 1] then
    count = count + redis.call('HDEL', KEYS[1], ARGV[at])
  end
end
return count
