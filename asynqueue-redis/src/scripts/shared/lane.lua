-- Each change comes in a lane, under a number that goes up: so one that is sent again, since its answer was lost, is
-- answered as it was and not made twice, and one that arrives late, behind another, is not made at all.
local function seen(lanes, lane, number)
  local last = redis.call('HGET', lanes, lane)
  if not last then return false end
  local reached, answer = last:match('^(%d+):%d+:(.*)$')
  if tonumber(reached) < tonumber(number) then return false end
  -- Written again as it is: who waits for replicas or the disk waits for what came by this connection. First a change that frees
  -- memory, so that a Redis without any lets this through.
  redis.call('HDEL', lanes, '')
  redis.call('HSET', lanes, lane, last)
  return answer
end

local function note(lanes, lane, number, now, answer)
  redis.call('HSET', lanes, lane, number .. ':' .. int(now) .. ':' .. answer)
end
