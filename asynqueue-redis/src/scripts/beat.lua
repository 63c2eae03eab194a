-- Keeps what a server reports of itself. ARGV: clock, field and value of the server, field of the request.
-- Answers how many fields there are, and what is requested of it.
clock(ARGV[1])
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
return {redis.call('HLEN', KEYS[1]), redis.call('HGET', KEYS[1], ARGV[4])}
