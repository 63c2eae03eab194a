-- Returns the approximate memory of keys in bytes.
local sum = 0
for at = ALL, #KEYS do sum = sum + (redis.call('MEMORY', 'USAGE', KEYS[at]) or 0) end
return sum
