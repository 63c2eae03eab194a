-- Now, in milliseconds by the clock of Redis, unless a test has set another.
local function clock(set)
  if set ~= '' then return tonumber(set) end
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A whole number as text, without an exponent.
local function int(n) return string.format('%.0f', n) end
