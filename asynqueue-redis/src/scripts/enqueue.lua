-- Accepts tasks.
-- There are `specials` special tasks, each with its index among all. `how` is the kind of its time: '' now, '+' from
-- now, '@' at. `lock` is its lock ('' none), and `window` is 'w' if the lock can outlive it. `group` has the limits and
-- the name of the group to wait in ('' none), `tick` the tick, tolerance and guard ('' none).
-- Returns the time and the refused tasks, one per line: the index, 'id' and the state of the task that has the id; the
-- index and 'fired' if its guard has this tick or a later one; or the index, 'lock', its holder and the holder's state
-- ('-' if it no longer exists).
-- Returns only the time if no task is refused.
local now = clock(not_after)
local before = seen(lanes, lane, number)
if before then return before end

local first = ROWS + specials * SPECIAL_ROW
local count = (#ARGV + 1 - first) / TASK_ROW
local ids = {}
for i = 1, count do ids[i] = ARGV[first + (i - 1) * TASK_ROW + ID] end

-- The conflicting task of a refused one is in `holders`, if the conflict is a task.
local conflicts, refused, holders = {}, {}, {}
local taken = redis.call('HMGET', tasks, unpack(ids))
for i = 1, count do
  if taken[i] then
    refused[i] = #conflicts + 1
    conflicts[refused[i]], holders[refused[i]] = (i - 1) .. ' id', ids[i]
  end
end

if specials == '0' and #conflicts == 0 then
  whole(function()
    redis.call('HSET', tasks, unpack(ARGV, first))
    push(keys, ids, {}, publish)
  end, function() redis.call('HDEL', tasks, unpack(ids)) end)
  note(lanes, lane, number, now, '')
  return now
end

-- The locks that are held and not expired, including those of this batch.
local held, asked = {}, {}
for at = ROWS, first - 1, SPECIAL_ROW do
  if ARGV[at + LOCK] ~= '' then asked[#asked + 1] = ARGV[at + LOCK] end
end
if #asked > 0 then
  local found = redis.call('HMGET', locks, unpack(asked))
  for i, key in ipairs(asked) do
    local ends, holder = (found[i] or ''):match('^(%d+)w?:(.*)$')
    if ends and tonumber(ends) > now then held[key] = holder end
  end
end

local ticks, last_tick, fired_before = {}, {}, {}
local special, taken_locks, ends_at, with_priority, joined = {}, {}, {}, {}, {}
for at = ROWS, first - 1, SPECIAL_ROW do
  local i, key = tonumber(ARGV[at + PLACE]), ARGV[at + LOCK]
  special[i] = at
  local tick, tolerance, guard = ARGV[at + TICK]:match('^(%d+),(%d+):(.*)$')
  if tick then
    -- Before everything else: a tick that has fired is done, even if its task is refused. A last tick too far ahead
    -- comes from a wrong clock.
    tick = tonumber(tick)
    if fired_before[guard] == nil then
      fired_before[guard] = redis.call('HGET', fired, guard)
      last_tick[guard] = tonumber(fired_before[guard] or '')
    end
    local last = last_tick[guard]
    if last and (last == tick or (last > tick and last <= math.max(tick, now) + tolerance)) then
      refused[i] = refused[i] or #conflicts + 1
      conflicts[refused[i]], holders[refused[i]] = (i - 1) .. ' fired', nil
    end
  end
  if not refused[i] and key ~= '' then
    if held[key] then
      refused[i] = true
      conflicts[#conflicts + 1] = (i - 1) .. ' lock ' .. held[key]
      holders[#conflicts] = held[key]
    else
      held[key] = ids[i]
      local ends = int(now + ARGV[at + TTL])
      taken_locks[#taken_locks + 1], taken_locks[#taken_locks + 2] = key, ends .. ARGV[at + WINDOW] .. ':' .. ids[i]
      ends_at[#ends_at + 1], ends_at[#ends_at + 2] = ends, key
    end
  end
  if not refused[i] and tick then
    ticks[#ticks + 1], ticks[#ticks + 2], last_tick[guard] = guard, int(tick), tick
  end
  if not refused[i] and ARGV[at + GROUP] ~= '' then
    joined[#joined + 1], joined[#joined + 2] = ids[i], ARGV[at + GROUP]
  end
  if not refused[i] and ARGV[at + PRIORITY] ~= '0' then
    with_priority[#with_priority + 1], with_priority[#with_priority + 2] = ids[i], ARGV[at + PRIORITY]
  end
end

local put, plain, first_ones, later = {}, {}, {}, {}
for i = 1, count do
  if not refused[i] then
    local id, at = ids[i], special[i]
    put[#put + 1], put[#put + 2] = id, ARGV[first + (i - 1) * TASK_ROW + ENVELOPE]
    local due, priority = now, '0'
    if at then
      priority = ARGV[at + PRIORITY]
      if ARGV[at + HOW] == '+' then
        due = now + ARGV[at + TIME]
      elseif ARGV[at + HOW] == '@' then
        due = tonumber(ARGV[at + TIME])
      end
    end
    if at and ARGV[at + GROUP] ~= '' then
      -- It waits in its group.
    elseif due > now then
      later[#later + 1], later[#later + 2] = int(due), id
    elseif priority ~= '0' then
      first_ones[#first_ones + 1], first_ones[#first_ones + 2] = id, tonumber(priority)
    else
      plain[#plain + 1] = id
    end
  end
end
local function accept()
  -- First, because this is what a Redis without memory refuses, so that nothing is half done.
  if #put > 0 then redis.call('HSET', tasks, unpack(put)) end
  if #ticks > 0 then redis.call('HSET', fired, unpack(ticks)) end
  if #taken_locks > 0 then
    redis.call('HSET', locks, unpack(taken_locks))
    redis.call('ZADD', lock_ends, unpack(ends_at))
  end
  if #with_priority > 0 then redis.call('HSET', priorities, unpack(with_priority)) end
  wait(keys, later, {}, publish)
  join(keys, joined, now, publish)
  push(keys, plain, first_ones, publish)
end
whole(accept, function()
  for i = 1, #put, 2 do redis.call('HDEL', tasks, put[i]) end
  for i = 1, #ticks, 2 do
    local before = fired_before[ticks[i]]
    if before then redis.call('HSET', fired, ticks[i], before) else redis.call('HDEL', fired, ticks[i]) end
  end
  for i = 1, #taken_locks, 2 do
    redis.call('HDEL', locks, taken_locks[i])
    redis.call('ZREM', lock_ends, taken_locks[i])
  end
  for i = 1, #later, 2 do redis.call('ZREM', scheduled, later[i + 1]) end
  for i = 1, #joined, 2 do redis.call('HDEL', aggregating, joined[i]) end
  -- They are at the left end of the list.
  for i = 1, #plain do redis.call('LREM', pending, 1, plain[i]) end
end)
if #conflicts == 0 then
  note(lanes, lane, number, now, '')
  return now
end

-- The states of the conflicting tasks, each looked up once.
local named, of, is_there = {}, {}, {}
for i = 1, #conflicts do
  local id = holders[i]
  if id and not of[id] then
    named[#named + 1] = id
    of[id], is_there[#named] = #named, redis.call('HEXISTS', tasks, id) == 1
  end
end
local states = #named > 0 and places(keys, named, is_there) or {}
for i = 1, #conflicts do
  local id = holders[i]
  if id then conflicts[i] = conflicts[i] .. ' ' .. (states[of[id]] == '' and '-' or states[of[id]]) end
end
local answer = table.concat(conflicts, '\n')
note(lanes, lane, number, now, answer)
return {now, answer}
