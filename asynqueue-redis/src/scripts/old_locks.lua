-- Removes locks whose time is over, and those that ended with a task which is not there any more.
-- ARGV: clock, then of each lock its key and value as seen.
local locks, tasks, stats = KEYS[1], KEYS[2], KEYS[3]
local now, lost = clock(ARGV[1]), 0
for at = 2, #ARGV, 2 do
  local ends, window, holder = ARGV[at + 1]:match('^(%d+)(w?):(.*)$')
  local is_lost = window == '' and redis.call('HEXISTS', tasks, holder) == 0
  if (is_lost or tonumber(ends) <= now) and redis.call('HGET', locks, ARGV[at]) == ARGV[at + 1] then
    redis.call('HDEL', locks, ARGV[at])
    if is_lost then lost = lost + 1 end
  end
end
if lost > 0 then redis.call('HINCRBY', stats, 'repaired', lost) end
return lost
