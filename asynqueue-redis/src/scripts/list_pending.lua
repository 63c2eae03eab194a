-- The ids of pending tasks in the order they will run, from a place on.
-- ARGV: the place, how many. Answers the place to go on from ('' at the end) and the ids, which may be none before the end.
local keys = {pending = KEYS[1], urgent = KEYS[2], gone = KEYS[3], tasks = KEYS[4], archived = KEYS[5],
  completed = KEYS[6], scheduled = KEYS[7], retry = KEYS[8]}
local at, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local urgent, length = redis.call('ZCARD', keys.urgent), redis.call('LLEN', keys.pending)
local marked, last = redis.call('EXISTS', keys.gone) == 1, at + 2000
local ids = {}
if at < urgent then
  ids = redis.call('ZRANGE', keys.urgent, at, at + limit - 1)
  at = at + #ids
end
while #ids < limit and at < urgent + length and at < last do
  local from, take = at - urgent, math.min(limit - #ids, last - at)
  local page = redis.call('LRANGE', keys.pending, -from - take, -from - 1)
  for i = #page, 1, -1 do
    at = at + 1
    if not (marked and is_gone(keys, page[i], length - (at - urgent))) then ids[#ids + 1] = page[i] end
  end
end
-- What follows may all be gone.
while marked and at >= urgent and at < urgent + length and at < last do
  local position = length - (at - urgent) - 1
  if not is_gone(keys, redis.call('LINDEX', keys.pending, position), position) then break end
  at = at + 1
end
return {at < urgent + length and int(at) or '', ids}
