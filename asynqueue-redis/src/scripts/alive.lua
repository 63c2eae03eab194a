-- Says that an instance is alive, and asks whether others are. KEYS: that of the instance, then those of the others.
-- ARGV: clock, for how many milliseconds. Answers for each of the others 1 or 0.
clock(not_after)
redis.call('SET', own, '', 'PX', millis)
local answers = {}
for i = OTHERS, #KEYS do answers[#answers + 1] = redis.call('EXISTS', KEYS[i]) end
return answers
