-- Adds a name to a set, or removes it. ARGV: clock, 'y' to add it, the name.
clock(ARGV[1])
if ARGV[2] == 'y' then return redis.call('SADD', KEYS[1], ARGV[3]) end
return redis.call('SREM', KEYS[1], ARGV[3])
