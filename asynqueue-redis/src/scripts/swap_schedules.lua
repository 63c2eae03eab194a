-- Changes schedule entries, each if it still is as it was seen. KEYS: after the first two, of each the outcomes of its ticks.
-- ARGV: of each its name, the entry as seen ('' none), the entry to put in its place ('' removes it) and when that is due ('' never).
-- Answers of each whether it was done.
local entries, due = KEYS[1], KEYS[2]
local answers = {}
for at = 1, #ARGV, 4 do
  local i, name, new = #answers + 1, ARGV[at], ARGV[at + 2]
  answers[i] = (redis.call('HGET', entries, name) or '') == ARGV[at + 1] and 1 or 0
  if answers[i] == 1 then
    if new ~= '' then
      redis.call('HSET', entries, name, new)
    else
      redis.call('HDEL', entries, name)
      redis.call('UNLINK', KEYS[2 + i])
    end
    if ARGV[at + 3] ~= '' then
      redis.call('ZADD', due, ARGV[at + 3], name)
    else
      redis.call('ZREM', due, name)
    end
  end
end
return answers
