-- Postpones a group.
return redis.call('ZADD', groups, 'XX', int(clock(not_after) + millis), group)
