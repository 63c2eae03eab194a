-- Returns the ids of pending tasks in the order they will run, from a position on.
-- Returns the position to continue from ('' at the end) and the ids, which may be empty before the end.
local at, most = tonumber(place), tonumber(limit)
local firsts, length = redis.call('ZCARD', urgent), redis.call('LLEN', pending)
local marked, last = redis.call('EXISTS', gone) == 1, at + 2000
local ids = {}
if at < firsts then
  ids = redis.call('ZRANGE', urgent, at, at + most - 1)
  at = at + #ids
end
while #ids < most and at < firsts + length and at < last do
  local from, take = at - firsts, math.min(most - #ids, last - at)
  local page = redis.call('LRANGE', pending, -from - take, -from - 1)
  for i = #page, 1, -1 do
    at = at + 1
    if not (marked and is_gone(keys, page[i], length - (at - firsts))) then ids[#ids + 1] = page[i] end
  end
end
-- The following entries may all be left over from deleted tasks.
while marked and at >= firsts and at < firsts + length and at < last do
  local position = length - (at - firsts) - 1
  if not is_gone(keys, redis.call('LINDEX', pending, position), position) then break end
  at = at + 1
end
return {at < firsts + length and int(at) or '', ids}
