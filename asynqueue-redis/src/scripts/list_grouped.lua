-- Returns the tasks that wait in groups, starting after a member ('' from the first).
local first = after == '' and '-' or '(' .. after
return redis.call('ZRANGE', grouped, first, '+', 'BYLEX', 'LIMIT', 0, limit)
