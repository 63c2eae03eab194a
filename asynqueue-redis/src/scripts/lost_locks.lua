-- Removes locks that end with a task that no longer exists, each if it is as it was read.
local lost = 0
clock(not_after)
for at = ROWS, #ARGV, LOCK_ROW do
  local lock, seen = ARGV[at + LOCK], ARGV[at + SEEN]
  local window, holder = seen:match('^%d+(w?):(.*)$')
  if window == '' and redis.call('HEXISTS', tasks, holder) == 0 and redis.call('HGET', locks, lock) == seen then
    redis.call('HDEL', locks, lock)
    redis.call('ZREM', lock_ends, lock)
    lost = lost + 1
  end
end
if lost > 0 then redis.call('HINCRBY', stats, 'repaired', lost) end
return lost
