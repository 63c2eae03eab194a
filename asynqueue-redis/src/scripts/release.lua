-- Gives up the care of a queue, and announces it to the others.
-- ARGV: clock, the instance, publish. Answers whether the instance had it.
local owner, events = KEYS[1], KEYS[2]
clock(ARGV[1])
if redis.call('GET', owner) ~= ARGV[2] then return 0 end
redis.call('DEL', owner)
redis.call(ARGV[3], events, 'o')
return 1
