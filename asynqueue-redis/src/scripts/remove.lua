-- Removes fields of a hash. ARGV: clock, then the fields.
clock(ARGV[1])
return redis.call('HDEL', KEYS[1], unpack(ARGV, 2))
