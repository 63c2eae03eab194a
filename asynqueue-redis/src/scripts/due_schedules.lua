-- The schedule entries that are due. ARGV: clock, how many at most.
-- Answers when the next is due ('' never), then names and entries.
local entries, due = KEYS[1], KEYS[2]
local now, limit = clock(ARGV[1]), tonumber(ARGV[2])
local found = redis.call('ZRANGE', due, '-inf', int(now), 'BYSCORE', 'LIMIT', 0, limit)
local next_due = redis.call('ZRANGE', due, #found, #found, 'WITHSCORES')
local answer = {next_due[2] or ''}
if #found == 0 then return answer end
for i, entry in ipairs(redis.call('HMGET', entries, unpack(found))) do
  if entry then
    answer[#answer + 1], answer[#answer + 2] = found[i], entry
  else
    redis.call('ZREM', due, found[i])
  end
end
return answer
