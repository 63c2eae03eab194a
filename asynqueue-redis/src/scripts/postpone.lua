-- Lets a group be due later. ARGV: clock, the group, how many milliseconds.
return redis.call('ZADD', KEYS[1], 'XX', int(clock(ARGV[1]) + ARGV[3]), ARGV[2])
