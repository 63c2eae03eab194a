-- The schedule entries that are due: at most `limit`, after the first `passed`.
-- Answers when the next is due ('' never), what time it is, then names and entries.
local now = clock(not_after)
local found = redis.call('ZRANGE', due, '-inf', int(now), 'BYSCORE', 'LIMIT', passed, limit)
local after = tonumber(passed) + #found
local next_due = redis.call('ZRANGE', due, after, after, 'WITHSCORES')
local answer = {next_due[2] or '', int(now)}
if #found == 0 then return answer end
for i, entry in ipairs(redis.call('HMGET', entries, unpack(found))) do
  if entry then
    answer[#answer + 1], answer[#answer + 2] = found[i], entry
  else
    redis.call('ZREM', due, found[i])
  end
end
return answer
