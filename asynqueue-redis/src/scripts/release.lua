-- Releases the ownership of a queue, and notifies the others. Returns whether the instance owned it.
clock(not_after)
if redis.call('GET', owner) ~= instance then return 0 end
redis.call('DEL', owner)
redis.call(publish, events, 'o')
return 1
