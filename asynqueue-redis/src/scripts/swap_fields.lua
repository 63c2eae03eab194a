-- Changes fields of a hash, all if each still is as it was seen ('' not there), and sets the field `mark`. A new value that is
-- '' removes the field. Answers 'y' done or 'n'.
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
