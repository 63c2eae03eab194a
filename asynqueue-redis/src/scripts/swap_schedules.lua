-- Changes schedule entries, each if it still is as it was seen. KEYS: after the first three, of each the outcomes of its ticks.
-- ARGV: clock, lane, number; then of each its name, the entry as seen ('' none), the entry to put in its place ('' removes it) and
-- when that is due ('' never). Answers of each whether it was done, 'y' or 'n'.
local entries, due, lanes = KEYS[1], KEYS[2], KEYS[3]
local now = clock(ARGV[1])
local before = seen(lanes, ARGV[2], ARGV[3])
if before then return before end
local answers = {}
for at = 4, #ARGV, 4 do
  local i, name, new = #answers + 1, ARGV[at], ARGV[at + 2]
  answers[i] = (redis.call('HGET', entries, name) or '') == ARGV[at + 1] and 'y' or 'n'
  if answers[i] == 'y' then
    if new ~= '' then
      redis.call('HSET', entries, name, new)
    else
      redis.call('HDEL', entries, name)
      redis.call('UNLINK', KEYS[3 + i])
    end
    if ARGV[at + 3] ~= '' then
      redis.call('ZADD', due, ARGV[at + 3], name)
    else
      redis.call('ZREM', due, name)
    end
  end
end
local answer = table.concat(answers)
note_beside(lanes, ARGV[2], ARGV[3], now, answer)
return answer
