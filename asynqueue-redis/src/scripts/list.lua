-- Returns ids of a list that is ordered by time, 'up' or 'down', starting after a position, if given.
-- Returns member, time, member, time, …
local up = direction == 'up'
local rank_of, range = up and 'ZRANK' or 'ZREVRANK', up and 'ZRANGE' or 'ZREVRANGE'
local first = 0
if #ARGV >= ROWS then
  local seen_time, seen_member = ARGV[ROWS + TIME], ARGV[ROWS + MEMBER]
  local rank = redis.call(rank_of, list, seen_member)
  if rank and redis.call('ZSCORE', list, seen_member) == seen_time then
    first = rank + 1
  else
    -- The entry no longer exists: continue with the first one after its position.
    local time, before = tonumber(seen_time), 0
    if up then
      before = redis.call('ZCOUNT', list, '-inf', '(' .. seen_time)
    else
      before = redis.call('ZCOUNT', list, '(' .. seen_time, '+inf')
    end
    first = before
    while true do
      local found = redis.call(range, list, first, first, 'WITHSCORES')
      if not found[1] or tonumber(found[2]) ~= time then break end
      if (up and found[1] > seen_member) or (not up and found[1] < seen_member) then break end
      first = first + 1
    end
  end
end
return redis.call(range, list, first, first + limit - 1, 'WITHSCORES')
