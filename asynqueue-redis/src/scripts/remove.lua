-- Removes fields of a hash. ARGV: clock, then the fields.
clock(not_after)
return redis.call('HDEL', hash, unpack(ARGV, ROWS))
