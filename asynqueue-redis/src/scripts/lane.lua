-- Each change comes in a lane, under a number that goes up: so one that is sent again, since its answer was lost, is
-- answered as it was and not made twice, and one that arrives late, behind another, is not made at all.
local function seen(lanes, lane, number)
  local last = redis.call('HGET', lanes, lane)
  if not last then return false end
  local reached, answer = last:match('^(%d+):%d+:(.*)$')
  return tonumber(reached) >= tonumber(number) and answer
end

local function note(lanes, lane, number, now, answer)
  redis.call('HSET', lanes, lane, number .. ':' .. int(now) .. ':' .. answer)
end
