-- Keeps what a server reports of itself. ARGV: clock, field and value of the server, field of the request.
-- Answers how many fields there are, and what is requested of it.
clock(not_after)
redis.call('HSET', servers, name, server)
return {redis.call('HLEN', servers), redis.call('HGET', servers, request)}
