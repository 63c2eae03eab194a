-- The tasks that wait in groups, from just after one on. ARGV: how many, the member to go on after ('' none).
local after = ARGV[2] == '' and '-' or '(' .. ARGV[2]
return redis.call('ZRANGE', KEYS[1], after, '+', 'BYLEX', 'LIMIT', 0, ARGV[1])
