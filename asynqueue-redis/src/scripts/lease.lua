-- Leases the next tasks: at most `limit`, for this many milliseconds, with at most `bytes` bytes of envelopes (a single
-- one may be larger). `step` of them are read first. `worker` is the worker's name ('' if its tag is known). `instance`
-- is woken for more if there are fewer ('' none).
-- Returns the time, 'more' if it may have left some ('seen' if the call was processed before), ids, envelopes, and
-- since when the tasks were pending, unless all have been since they were enqueued.
local now, max = clock(not_after), tonumber(limit)
if seen(lanes, lane, number) then return {int(now), 'seen'} end

-- A call that was sent once and finds nothing is not noted. A repeated call is always noted: the first one may still
-- arrive after it, when there are tasks.
local function nothing(more)
  if not_after:sub(1, 1) == '!' then note(lanes, lane, number, now, '') end
  return {int(now), more}
end
local function wait_for_more()
  if instance ~= '' then pcall(redis.call, 'ZADD', idle, int(now), instance) end
end
local marks = redis.call('HMGET', meta, 'paused', 'stale')
if marks[1] then
  -- A call that removes nothing: after it, a Redis without memory does not refuse the rest of the script.
  pcall(redis.call, 'ZREM', idle, '')
  wait_for_more()
  return nothing('')
end
local rare = redis.call('EXISTS', urgent, since, leases)

local ids, envelopes, count, taken_bytes, is_full = {}, {}, 0, 0, false
-- Entries that were taken out and are not among `ids`, and the scores of tasks with a priority.
local flying, scores = {}, {}
local room, first_step = tonumber(bytes), tonumber(step)
-- Reads the envelopes of the next tasks, as many as there is room for. Returns how many.
local function take(some)
  -- One size shows roughly how many would be too many to read.
  local last, size = #some, redis.call('HSTRLEN', tasks, some[#some])
  if size * last > 2 * room then last = math.max(1, math.floor(room / size)) end
  local bodies, fit = redis.call('HMGET', tasks, unpack(some, 1, last)), last
  for i = 1, last do
    local size = bodies[i] and #bodies[i] or 0
    if taken_bytes + size > room and count + i > 1 then
      fit, is_full = i - 1, true
      break
    end
    taken_bytes = taken_bytes + size
  end
  if count == 0 and fit == #some then
    ids, envelopes, count = some, bodies, fit
  else
    for i = 1, fit do ids[count + i], envelopes[count + i] = some[i], bodies[i] end
    count = count + fit
  end
  return fit
end
-- How many to read at a time: as many as will fit, if they are like the previous ones.
local function next_step()
  local steps = count == 0 and first_step or math.floor((room - taken_bytes) * count / math.max(taken_bytes, 1))
  return math.max(1, math.min(max - count, steps))
end

-- A task that was deleted while it waited is still in the list, before a later task with its id.
local stale = tonumber(marks[2] or 0)
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

local function lease()
  while rare > 0 and count < max and not is_full do
    local popped, some = redis.call('ZPOPMIN', urgent, next_step()), {}
    if #popped == 0 then break end
    for i = 1, #popped, 2 do some[#some + 1], scores[popped[i]] = popped[i], popped[i + 1] end
    flying = some
    for i = take(some) + 1, #some do redis.call('ZADD', urgent, popped[2 * i], some[i]) end
    flying = {}
  end

  local more, looked, may_be_stale = '', 0, stale > 0
  while count < max and not is_full do
    local asked = next_step()
    local waiting = redis.call('RPOP', pending, asked)
    if not waiting then break end
    local popped = #waiting
    flying = waiting
    looked = looked + popped
    if stale > 0 then waiting = live(waiting) end
    flying = waiting
    local taken = #waiting > 0 and take(waiting) or 0
    -- The rest returns to its place.
    for i = #waiting, taken + 1, -1 do redis.call('RPUSH', pending, waiting[i]) end
    flying = {}
    if popped < asked and taken == #waiting then break end
    if may_be_stale and looked >= 3 * max then
      more = 'more'
      break
    end
  end
  if may_be_stale and redis.call('LLEN', pending) <= stale then
    redis.call('UNLINK', pending, gone)
    redis.call('HDEL', meta, 'stale')
  end
  if is_full then more = 'more' end
  if count < max and more == '' then wait_for_more() end
  if count == 0 then return nothing(more) end

  local ends, taken, n, missing = int(now + millis), {}, 0, 0
  for i = 1, count do
    if envelopes[i] then
      taken[n + 1], taken[n + 2] = ends, token .. ids[i]
      n = n + 2
    else
      missing = missing + 1
    end
  end
  if n > 0 then
    redis.call('ZADD', active, unpack(taken))
    index(active, leases, taken, rare > 0)
  end
  local times
  if rare > 0 and redis.call('EXISTS', since) == 1 then
    times = redis.call('HMGET', since, unpack(ids))
    redis.call('HDEL', since, unpack(ids))
  end
  if worker ~= '' then redis.call('HSET', workers, tag, worker) end
  if missing > 0 then
    -- Skips and counts an id without a task.
    redis.call('HINCRBY', stats, 'repaired', missing)
    local found, kept, known = {}, {}, {}
    for i = 1, count do
      if envelopes[i] then
        found[#found + 1], kept[#kept + 1], known[#known + 1] = envelopes[i], ids[i], times and times[i]
      end
    end
    ids, envelopes, times, more = kept, found, times and known, 'more'
  end
  -- These leases are found by their expiry if this response is lost.
  note(lanes, lane, number, now, ends)
  return {int(now), more, ids, envelopes, times}
end

-- Everything that was taken is back in its place, with the first one next again.
return whole(lease, function()
  local function put_back(id)
    pcall(redis.call, 'ZREM', active, token .. id)
    if scores[id] and pcall(redis.call, 'ZADD', urgent, scores[id], id) then return end
    redis.call('RPUSH', pending, id)
  end
  for i = #flying, 1, -1 do put_back(flying[i]) end
  for i = count, 1, -1 do put_back(ids[i]) end
end)
