-- Says that an instance is alive, and asks whether others are. KEYS: that of the instance, then those of the others.
-- ARGV: clock, for how many milliseconds. Answers for each of the others 1 or 0.
clock(ARGV[1])
redis.call('SET', KEYS[1], '', 'PX', ARGV[2])
local answers = {}
for i = 2, #KEYS do answers[i - 1] = redis.call('EXISTS', KEYS[i]) end
return answers
