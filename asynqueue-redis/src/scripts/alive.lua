-- Says that an instance is alive for so many milliseconds, and asks whether others are. Answers 1 or 0 for each of the others.
clock(not_after)
redis.call('SET', own, '', 'PX', millis)
local answers = {}
for i = OTHERS, #KEYS do answers[#answers + 1] = redis.call('EXISTS', KEYS[i]) end
return answers
