-- Lets a group be due later. ARGV: clock, the group, how many milliseconds.
return redis.call('ZADD', groups, 'XX', int(clock(not_after) + millis), group)
