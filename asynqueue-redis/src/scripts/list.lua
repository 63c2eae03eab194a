-- The ids of one list by time, from just after a place on.
-- ARGV: 'up' or 'down', how many, then the place: its time and member, if there is one. Answers member, time, member, time, …
local list, limit = KEYS[1], tonumber(ARGV[2])
local up = ARGV[1] == 'up'
local rank_of, range = up and 'ZRANK' or 'ZREVRANK', up and 'ZRANGE' or 'ZREVRANGE'
local first = 0
if ARGV[3] then
  local rank = redis.call(rank_of, list, ARGV[4])
  if rank and redis.call('ZSCORE', list, ARGV[4]) == ARGV[3] then
    first = rank + 1
  else
    -- It is gone meanwhile: from the first one behind where it was.
    local time, before = tonumber(ARGV[3]), 0
    if up then
      before = redis.call('ZCOUNT', list, '-inf', '(' .. ARGV[3])
    else
      before = redis.call('ZCOUNT', list, '(' .. ARGV[3], '+inf')
    end
    first = before
    while true do
      local found = redis.call(range, list, first, first, 'WITHSCORES')
      if not found[1] or tonumber(found[2]) ~= time then break end
      if (up and found[1] > ARGV[4]) or (not up and found[1] < ARGV[4]) then break end
      first = first + 1
    end
  end
end
return redis.call(range, list, first, first + limit - 1, 'WITHSCORES')
