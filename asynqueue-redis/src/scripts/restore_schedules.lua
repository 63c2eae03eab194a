-- Puts schedule entries back that are missing, unless they were removed.
-- ARGV: clock, for how many milliseconds a removal is remembered, a mark that was never before; of each entry its name, the entry ('' only
-- asks for it) and when it is due ('' never).
-- Answers the mark, then of each entry 'h' it is there, 'r' it was removed, 'm' it is missing, 'y' it was put back.
local entries, due, mark, removed = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local now, answers, is_other = clock(ARGV[1]), {}, false
redis.call('ZREMRANGEBYSCORE', removed, '-inf', int(now - ARGV[2]))
local kept = redis.call('GET', mark)
for at = 4, #ARGV, 3 do
  local name, answer = ARGV[at], 'y'
  if redis.call('HEXISTS', entries, name) == 1 then
    answer = 'h'
  elseif redis.call('ZSCORE', removed, name) then
    answer = 'r'
  elseif ARGV[at + 1] == '' then
    answer = 'm'
  else
    redis.call('HSET', entries, name, ARGV[at + 1])
    if ARGV[at + 2] ~= '' then redis.call('ZADD', due, ARGV[at + 2], name) end
    is_other = true
  end
  answers[#answers + 1] = answer
end
if is_other or not kept then
  kept = ARGV[3]
  redis.call('SET', mark, kept)
end
return {kept, answers}
