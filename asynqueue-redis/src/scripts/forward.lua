-- Makes due tasks pending, at most `limit`. Returns how many it moved, and when the next one is due ('' never).
local now, most = clock(not_after), tonumber(limit)
local function due(key)
  return redis.call('ZRANGE', key, '-inf', int(now), 'BYSCORE', 'LIMIT', 0, limit, 'WITHSCORES')
end
local due_scheduled, due_retry = due(scheduled), due(retry)

-- By due time, so that neither a scheduled nor a retry backlog delays the other.
local s, r, ids, of_scheduled, of_retry = 1, 1, {}, {}, {}
while #ids < most and (due_scheduled[s] or due_retry[r]) do
  local id
  if due_scheduled[s] and not (due_retry[r] and tonumber(due_retry[r + 1]) < tonumber(due_scheduled[s + 1])) then
    id, s = due_scheduled[s], s + 2
    of_scheduled[#of_scheduled + 1] = id
  else
    id, r = due_retry[r], r + 2
    of_retry[#of_retry + 1] = id
  end
  ids[#ids + 1] = id
end
if #of_scheduled > 0 then redis.call('ZREM', scheduled, unpack(of_scheduled)) end
if #of_retry > 0 then redis.call('ZREM', retry, unpack(of_retry)) end
if #ids > 0 then
  local plain, first, pended = ids, {}, {}
  if redis.call('EXISTS', priorities) == 1 then
    plain = {}
    for i, priority in ipairs(redis.call('HMGET', priorities, unpack(ids))) do
      if priority then
        first[#first + 1], first[#first + 2] = ids[i], tonumber(priority)
      else
        plain[#plain + 1] = ids[i]
      end
    end
  end
  for _, id in ipairs(ids) do pended[#pended + 1], pended[#pended + 2] = id, int(now) end
  redis.call('HSET', since, unpack(pended))
  push(keys, plain, first, publish)
end
if #ids == 0 and redis.call('EXISTS', idle) == 1 then
  -- Tasks and servers wait at the same time: the server that was woken for the tasks has stopped or hangs.
  wake(keys, redis.call('LLEN', pending) + redis.call('ZCARD', urgent), false, publish)
end
local next_due = first_due(keys)
return {#ids, next_due and int(next_due) or ''}
