-- Removes locks that end with a task which is not there any more. ARGV: clock, then of each lock its key and value as seen.
local locks, lock_ends, tasks, stats = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local lost = 0
clock(ARGV[1])
for at = 2, #ARGV, 2 do
  local window, holder = ARGV[at + 1]:match('^%d+(w?):(.*)$')
  if window == '' and redis.call('HEXISTS', tasks, holder) == 0 and redis.call('HGET', locks, ARGV[at]) == ARGV[at + 1] then
    redis.call('HDEL', locks, ARGV[at])
    redis.call('ZREM', lock_ends, ARGV[at])
    lost = lost + 1
  end
end
if lost > 0 then redis.call('HINCRBY', stats, 'repaired', lost) end
return lost
