-- Releases locks, if their holders still have them.
local names, over = {}, {}
clock(not_after)
for at = ROWS, #ARGV, LOCK_ROW do names[#names + 1] = ARGV[at + LOCK] end
for i, held in ipairs(redis.call('HMGET', locks, unpack(names))) do
  if held and held:match('^%d+w?:(.*)$') == ARGV[ROWS + (i - 1) * LOCK_ROW + HOLDER] then over[#over + 1] = names[i] end
end
if #over > 0 then
  redis.call('HDEL', locks, unpack(over))
  redis.call('ZREM', lock_ends, unpack(over))
end
return #over
