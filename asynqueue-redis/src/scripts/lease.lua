-- Leases the tasks that are next.
-- ARGV: clock, lane, number, token, how many at most, how many milliseconds, the worker's tag and its name, the instance to wake
-- for more where there are fewer ('' none).
-- Answers now, 'more' if it may have left some ('seen' if it was answered before), ids, envelopes, and since when they were
-- pending, unless all have been since they were enqueued.
local tasks, pending, urgent, active, since, gone, lanes, meta, stats, idle =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local now, token, max = clock(ARGV[1]), ARGV[4], tonumber(ARGV[5])
if seen(lanes, ARGV[2], ARGV[3]) then return {int(now), 'seen'} end
local known = redis.call('HMGET', meta, 'paused', 'stale', 'w:' .. ARGV[7])
local function wait_for_more()
  if ARGV[9] ~= '' then redis.call('ZADD', idle, int(now), ARGV[9]) end
end
if known[1] then
  -- Removing nothing makes what follows part of a change that Redis does not refuse when it is out of memory.
  redis.call('ZREM', idle, '')
  wait_for_more()
  return {int(now), ''}
end

local ids = {}
local popped = redis.call('ZPOPMIN', urgent, max)
for i = 1, #popped, 2 do ids[#ids + 1] = popped[i] end

-- What was deleted while it waited is still in the list, before whatever has its id by now.
local stale = tonumber(known[2] or 0)
local function live(popped)
  local counts = redis.call('HMGET', gone, unpack(popped))
  local left, dropped, kept = {}, 0, {}
  for i, id in ipairs(popped) do
    left[id] = left[id] or tonumber(counts[i] or 0)
    if left[id] > 0 then
      left[id] = left[id] - 1
      dropped = dropped + 1
      if redis.call('HINCRBY', gone, id, -1) == 0 then redis.call('HDEL', gone, id) end
    else
      kept[#kept + 1] = id
    end
  end
  stale = stale - dropped
  if dropped > 0 then redis.call('HINCRBY', meta, 'stale', -dropped) end
  return kept
end

local more = ''
if #ids < max then
  if stale <= 0 then
    local waiting = redis.call('RPOP', pending, max - #ids) or {}
    if #ids == 0 then
      ids = waiting
    else
      for _, id in ipairs(waiting) do ids[#ids + 1] = id end
    end
  else
    local rounds = 0
    while #ids < max do
      local waiting = redis.call('RPOP', pending, max - #ids)
      if not waiting then break end
      for _, id in ipairs(live(waiting)) do ids[#ids + 1] = id end
      rounds = rounds + 1
      if rounds == 3 then
        more = 'more'
        break
      end
    end
    if redis.call('LLEN', pending) <= stale then
      redis.call('UNLINK', pending, gone)
      redis.call('HDEL', meta, 'stale')
    end
  end
end
local count = #ids
if count < max and more == '' then wait_for_more() end
if count == 0 then return {int(now), more} end

local envelopes = redis.call('HMGET', tasks, unpack(ids))
local ends, leases, n, missing = int(now + ARGV[6]), {}, 0, 0
for i = 1, count do
  if envelopes[i] then
    leases[n + 1], leases[n + 2] = ends, token .. ids[i]
    n = n + 2
  else
    missing = missing + 1
  end
end
if n > 0 then redis.call('ZADD', active, unpack(leases)) end
local times
if redis.call('EXISTS', since) == 1 then
  times = redis.call('HMGET', since, unpack(ids))
  redis.call('HDEL', since, unpack(ids))
end
if known[3] ~= ARGV[8] then redis.call('HSET', meta, 'w:' .. ARGV[7], ARGV[8]) end
if missing > 0 then
  -- An id without a task is passed over, and counted.
  redis.call('HINCRBY', stats, 'repaired', missing)
  local found, kept, known = {}, {}, {}
  for i = 1, count do
    if envelopes[i] then
      found[#found + 1], kept[#kept + 1], known[#known + 1] = envelopes[i], ids[i], times and times[i]
    end
  end
  ids, envelopes, times, more = kept, found, times and known, 'more'
end
note(lanes, ARGV[2], ARGV[3], now, '')
return {int(now), more, ids, envelopes, times}
