-- Marks an instance as alive for this many milliseconds, and queries others. Returns 1 or 0 for each of the others.
clock(not_after)
redis.call('SET', own, '', 'PX', millis)
local answers = {}
for i = OTHERS, #KEYS do answers[#answers + 1] = redis.call('EXISTS', KEYS[i]) end
return answers
