-- The tasks that wait in groups, from just after a member on ('' from the first).
local first = after == '' and '-' or '(' .. after
return redis.call('ZRANGE', grouped, first, '+', 'BYLEX', 'LIMIT', 0, limit)
