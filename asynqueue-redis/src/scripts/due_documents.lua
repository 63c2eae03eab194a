-- Returns the due documents of a space, earliest first.
-- Returns when the next one is due ('' never), the time, the number of names read, then names and documents.
local now = clock(not_after)
local found = redis.call('ZRANGE', due, '-inf', int(now), 'BYSCORE', 'LIMIT', passed, limit)
local after = tonumber(passed) + #found
local next_due = redis.call('ZRANGE', due, after, after, 'WITHSCORES')
local answer = {next_due[2] or '', int(now), #found}
if #found == 0 then return answer end
for i, document in ipairs(redis.call('HMGET', documents, unpack(found))) do
  if document then
    answer[#answer + 1], answer[#answer + 2] = found[i], document
  else
    redis.call('ZREM', due, found[i])
  end
end
return answer
