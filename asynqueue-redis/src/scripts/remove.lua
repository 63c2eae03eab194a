-- Removes fields of a hash.
clock(not_after)
return redis.call('HDEL', hash, unpack(ARGV, ROWS))
