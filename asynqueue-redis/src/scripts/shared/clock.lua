-- Formats a whole number without an exponent.
local function int(n) return string.format('%.0f', n) end

-- Returns the time in milliseconds by the clock of Redis, unless a test has set another. The argument is the deadline
-- of the call after a `<` or, if the call may already have taken effect, a `!`. A call that arrives later changes
-- nothing: the client has given it up, and sends it again.
local function clock(given)
  local mark = given:sub(1, 1)
  if mark ~= '<' and mark ~= '!' and mark ~= '' then return tonumber(given) end
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  if mark ~= '' and now > tonumber(given:sub(2)) then error('ASYNQUEUE_LATE ' .. int(now)) end
  return now
end
