-- Puts a field of a hash in place of what it was seen as ('' not there), or removes it (''). Answers 'y' done or 'n'.
local now = clock(not_after)
local before = seen(lanes, lane, number)
if before then return before end
local done = (redis.call('HGET', hash, field) or '') == seen_value
if done and new == '' then
  redis.call('HDEL', hash, field)
elseif done then
  redis.call('HSET', hash, field, new)
end
note_beside(lanes, lane, number, now, done and 'y' or 'n')
return done and 'y' or 'n'
