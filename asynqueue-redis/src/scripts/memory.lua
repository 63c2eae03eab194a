-- About how many bytes keys take.
local sum = 0
for _, key in ipairs(KEYS) do sum = sum + (redis.call('MEMORY', 'USAGE', key) or 0) end
return sum
