-- Adds a name to a set, or removes it. ARGV: clock, 'y' to add it, the name.
clock(ARGV[1])
return redis.call(ARGV[2] == 'y' and 'SADD' or 'SREM', KEYS[1], ARGV[3])
