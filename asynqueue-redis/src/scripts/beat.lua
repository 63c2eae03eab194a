-- Keeps what a server tells of itself, and returns what is requested of it. ARGV: clock, field and value of the server, field of
-- the request.
clock(ARGV[1])
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
return redis.call('HGET', KEYS[1], ARGV[4])
