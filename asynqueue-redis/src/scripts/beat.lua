-- Keeps what a server tells of itself. ARGV: field and value of the server, field of the request.
-- Answers how many fields there are, and what is requested of it.
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return {redis.call('HLEN', KEYS[1]), redis.call('HGET', KEYS[1], ARGV[3])}
