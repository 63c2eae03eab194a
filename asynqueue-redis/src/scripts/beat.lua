-- Keeps what a server tells of itself, and returns what is requested of it. ARGV: field and value of the server, field of
-- the request.
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return redis.call('HGET', KEYS[1], ARGV[3])
