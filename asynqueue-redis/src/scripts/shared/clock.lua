-- A whole number as text, without an exponent.
local function int(n) return string.format('%.0f', n) end

-- Now, in milliseconds by the clock of Redis, unless a test has set another. What is given is by when the call has to
-- arrive, behind a `<` or, if it may have been carried out before, a `!`. One that arrives later changes nothing: the
-- client has given it up, and sends it again.
local function clock(given)
  local mark = given:sub(1, 1)
  if mark ~= '<' and mark ~= '!' and mark ~= '' then return tonumber(given) end
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  if mark ~= '' and now > tonumber(given:sub(2)) then error('ASYNQUEUE_LATE ' .. int(now)) end
  return now
end
