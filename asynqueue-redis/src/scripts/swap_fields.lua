-- Changes fields of a hash, all if each still is as it was seen, and sets one more.
-- ARGV: clock, lane, number, field and value to set; then of each its name, value as seen ('' not there) and value to put ('' removes
-- it). Answers whether it was done, 'y' or 'n'.
local now = clock(not_after)
local before = seen(lanes, lane, number)
if before then return before end
for at = ROWS, #ARGV, FIELD_ROW do
  if (redis.call('HGET', hash, ARGV[at + FIELD]) or '') ~= ARGV[at + SEEN] then return 'n' end
end
redis.call('HSET', hash, mark, mark_value)
for at = ROWS, #ARGV, FIELD_ROW do
  if ARGV[at + NEW] == '' then
    redis.call('HDEL', hash, ARGV[at + FIELD])
  else
    redis.call('HSET', hash, ARGV[at + FIELD], ARGV[at + NEW])
  end
end
note_beside(lanes, lane, number, now, 'y')
return 'y'
