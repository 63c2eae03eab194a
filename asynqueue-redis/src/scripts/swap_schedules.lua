-- Changes schedule entries, each if it still is as it was seen. KEYS: after the first five, of each the outcomes of its ticks.
-- ARGV: clock, lane, number, for how many milliseconds a removal is remembered, a mark that was never before; of each its name, the
-- entry as seen ('' none), the entry to put in its place ('' removes it) and when that is due ('' never).
-- Answers of each whether it was done, 'y' or 'n'.
local entries, due, mark, removed, lanes = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local now, answers, is_other = clock(ARGV[1]), {}, false
local before = seen(lanes, ARGV[2], ARGV[3])
if before then return before end
for at = 6, #ARGV, 4 do
  local i, name, seen, new = #answers + 1, ARGV[at], ARGV[at + 1], ARGV[at + 2]
  answers[i] = (redis.call('HGET', entries, name) or '') == seen and 'y' or 'n'
  if answers[i] == 'y' then
    if new ~= '' then
      redis.call('HSET', entries, name, new)
      if seen == '' then redis.call('ZREM', removed, name) end
    else
      redis.call('HDEL', entries, name)
      redis.call('UNLINK', KEYS[5 + i])
      redis.call('ZADD', removed, int(now), name)
      redis.call('PEXPIRE', removed, ARGV[4])
    end
    is_other = is_other or seen == '' or new == ''
    if ARGV[at + 3] ~= '' then
      redis.call('ZADD', due, ARGV[at + 3], name)
    else
      redis.call('ZREM', due, name)
    end
  end
end
if is_other then redis.call('SET', mark, ARGV[5]) end
local answer = table.concat(answers)
note_beside(lanes, ARGV[2], ARGV[3], now, answer)
return answer
