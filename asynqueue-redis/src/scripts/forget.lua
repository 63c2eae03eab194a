-- Removes fields that still have the value that was read.
local count = 0
for at = ROWS, #ARGV, FIELD_ROW do
  if redis.call('HGET', hash, ARGV[at + FIELD]) == ARGV[at + SEEN] then
    count = count + redis.call('HDEL', hash, ARGV[at + FIELD])
  end
end
return count
