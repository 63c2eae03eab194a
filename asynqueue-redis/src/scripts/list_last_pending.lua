-- Returns the ids of pending tasks, last first, from a position on. `after` is the last task before this position, or '':
-- tasks that were added since have moved it.
-- Returns the position to continue from ('' at the end), the last task before it, and the ids, which may be empty before
-- the end.
local at, most = tonumber(place), tonumber(limit)
local firsts, length = redis.call('ZCARD', urgent), redis.call('LLEN', pending)
if after ~= '' then
  local rank = redis.call('ZREVRANK', urgent, after)
  -- With a maximum, because the task may have left the list. Nothing moves an entry to the left.
  local found = not rank and redis.call('LPOS', pending, after, 'MAXLEN', at + 10000)
  if rank then at = length + rank + 1 elseif found and found >= at then at = found + 1 end
end
local marked, last = redis.call('EXISTS', gone) == 1, at + 2000
local ids, id = {}, after
while #ids < most and at < length and at < last do
  local take = math.min(most - #ids, last - at)
  local page = redis.call('LRANGE', pending, at, at + take - 1)
  for i = 1, #page do
    id = page[i]
    if not (marked and is_gone(keys, id, at)) then ids[#ids + 1] = id end
    at = at + 1
  end
end
if at >= length and #ids < most then
  local page = redis.call('ZREVRANGE', urgent, at - length, at - length + most - #ids - 1)
  for i = 1, #page do ids[#ids + 1] = page[i] end
  id, at = page[#page] or id, at + #page
end
-- The remaining entries may all be left over from deleted tasks.
while marked and firsts == 0 and at < length and at < last and is_gone(keys, redis.call('LINDEX', pending, at), at) do
  at = at + 1
end
return {at < length + firsts and int(at) or '', id, ids}
