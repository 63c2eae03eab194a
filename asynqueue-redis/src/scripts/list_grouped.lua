-- The tasks that wait in groups, from just after one on. ARGV: how many, the member to go on after ('' none).
local first = after == '' and '-' or '(' .. after
return redis.call('ZRANGE', grouped, first, '+', 'BYLEX', 'LIMIT', 0, limit)
