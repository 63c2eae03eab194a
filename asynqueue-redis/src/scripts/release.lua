-- Gives up the care of a queue, and announces it to the others. Answers whether the instance had it.
clock(not_after)
if redis.call('GET', owner) ~= instance then return 0 end
redis.call('DEL', owner)
redis.call(publish, events, 'o')
return 1
