-- Returns the leased tasks of a worker that has not received the response: as many as fit into another response, with
-- renewed leases. The others return to the front of the pending tasks.
-- Returns the time, '', ids and envelopes, as lease.lua does.
local now = clock(not_after)
local nothing = {int(now), ''}
local reached, noted = (redis.call('HGET', lanes, lane) or ''):match('^(%d+):%d+:(%d+)$')
if reached ~= number then return nothing end

-- They are found by their expiry. The worker has not extended them, because it does not know them.
local ids, members = {}, {}
for _, member in ipairs(redis.call('ZRANGE', active, noted, noted, 'BYSCORE')) do
  if member:sub(1, 16) == token then ids[#ids + 1], members[#members + 1] = member:sub(17), member end
end
if #ids == 0 then return nothing end
local bodies, count = read(tasks, ids, tonumber(bytes))
local ends, taken, kept, found = int(now + millis), {}, {}, {}
for i = 1, count do
  taken[2 * i - 1], taken[2 * i] = ends, members[i]
  if bodies[i] then kept[#kept + 1], found[#found + 1] = ids[i], bodies[i] end
end
redis.call('ZADD', active, unpack(taken))
if count < #ids then
  local back = {unpack(ids, count + 1)}
  redis.call('ZREM', active, unpack(members, count + 1))
  unindex(active, leases, back)
  local front, pended = {}, {}
  local known = redis.call('HMGET', priorities, unpack(back))
  for i = #back, 1, -1 do
    front[#front + 1], front[#front + 2] = back[i], known[i] or '0'
    pended[#pended + 1], pended[#pended + 2] = back[i], int(now)
  end
  redis.call('HSET', since, unpack(pended))
  push_front(keys, front, publish)
end
note(lanes, lane, number, now, ends)
return {int(now), '', kept, found}
