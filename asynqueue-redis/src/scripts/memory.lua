-- About how many bytes keys take.
local sum = 0
for at = ALL, #KEYS do sum = sum + (redis.call('MEMORY', 'USAGE', KEYS[at]) or 0) end
return sum
