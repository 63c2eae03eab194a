-- Makes the tasks pending that are due.
-- ARGV: clock, publish, how many at most. Answers how many it moved, and when the next is due ('' never).
local priorities, since = KEYS[1], KEYS[2]
local keys = {pending = KEYS[3], urgent = KEYS[4], scheduled = KEYS[5], retry = KEYS[6], meta = KEYS[7], events = KEYS[8],
  idle = KEYS[9], owner = KEYS[10]}
local now, limit = clock(ARGV[1]), tonumber(ARGV[3])
local function due(key)
  return redis.call('ZRANGE', key, '-inf', int(now), 'BYSCORE', 'LIMIT', 0, limit, 'WITHSCORES')
end
local scheduled, retry = due(keys.scheduled), due(keys.retry)

-- Whichever is due first: neither a scheduled nor a retried backlog may hold up the other.
local s, r, ids, of_scheduled, of_retry = 1, 1, {}, {}, {}
while #ids < limit and (scheduled[s] or retry[r]) do
  local id
  if scheduled[s] and not (retry[r] and tonumber(retry[r + 1]) < tonumber(scheduled[s + 1])) then
    id, s = scheduled[s], s + 2
    of_scheduled[#of_scheduled + 1] = id
  else
    id, r = retry[r], r + 2
    of_retry[#of_retry + 1] = id
  end
  ids[#ids + 1] = id
end
if #of_scheduled > 0 then redis.call('ZREM', keys.scheduled, unpack(of_scheduled)) end
if #of_retry > 0 then redis.call('ZREM', keys.retry, unpack(of_retry)) end
if #ids > 0 then
  local plain, urgent, pended = ids, {}, {}
  if redis.call('EXISTS', priorities) == 1 then
    plain = {}
    for i, priority in ipairs(redis.call('HMGET', priorities, unpack(ids))) do
      if priority then
        urgent[#urgent + 1], urgent[#urgent + 2] = ids[i], tonumber(priority)
      else
        plain[#plain + 1] = ids[i]
      end
    end
  end
  for _, id in ipairs(ids) do pended[#pended + 1], pended[#pended + 2] = id, int(now) end
  redis.call('HSET', since, unpack(pended))
  push(keys, plain, urgent, ARGV[2])
end
if #ids == 0 and redis.call('EXISTS', keys.idle) == 1 then
  -- Tasks wait beside servers that wait: the server that was woken for them has stopped, or stands still.
  wake(keys, redis.call('LLEN', keys.pending) + redis.call('ZCARD', keys.urgent), false, ARGV[2])
end
local next_due = first_due(keys)
return {#ids, next_due and int(next_due) or ''}
