-- Keeps what a server reports of itself, under its name. Answers how many fields there are, and what is requested of it: the
-- field `request`.
clock(not_after)
redis.call('HSET', servers, name, server)
return {redis.call('HLEN', servers), redis.call('HGET', servers, request)}
