-- Each change has a lane and an increasing number. A change that is sent again because its response was lost returns
-- the same response and takes effect once. A change that arrives late, after the next one, has no effect.
local function seen(lanes, lane, number)
  local last = redis.call('HGET', lanes, lane)
  if not last then return false end
  local reached, answer = last:match('^(%d+):%d+:(.*)$')
  if tonumber(reached) < tonumber(number) then return false end
  -- Written again unchanged: a caller that waits for replicas or the disk waits for the writes of this connection.
  -- First a change that frees memory, so that a Redis without memory accepts this one.
  redis.call('HDEL', lanes, '')
  redis.call('HSET', lanes, lane, last)
  return answer
end

local function note(lanes, lane, number, now, answer)
  redis.call('HSET', lanes, lane, number .. ':' .. int(now) .. ':' .. answer)
end
