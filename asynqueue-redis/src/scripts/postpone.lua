-- Lets a group be due later.
return redis.call('ZADD', groups, 'XX', int(clock(not_after) + millis), group)
