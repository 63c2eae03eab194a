-- Returns the tasks that wait in groups, 'up' or 'down', starting after a member ('' from the first).
if direction == 'up' then
  local first = after == '' and '-' or '(' .. after
  return redis.call('ZRANGE', grouped, first, '+', 'BYLEX', 'LIMIT', 0, limit)
end
local last = after == '' and '+' or '(' .. after
return redis.call('ZRANGE', grouped, last, '-', 'BYLEX', 'REV', 'LIMIT', 0, limit)
