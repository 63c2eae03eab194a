-- Accepts tasks.
-- ARGV: clock, lane, number, publish; how many tasks are special; for each of these its place, how its time is given
-- ('' now, '+' from now, '@' at), that time, priority, lock ('' none), its time to live, 'w' if it is for a window, limits and name
-- of the group to wait in ('' none), tick, tolerance and name of the schedule entry it is of ('' none); then of each task id and
-- envelope.
-- Answers now and the tasks that are refused, a line each: the place, 'id' and the state of the task that has it; the place and
-- 'fired' if its entry has fired a tick as late; or the place, 'lock', who holds it and its state ('-' it is gone). Answers just
-- now if none is.
local tasks, locks, priorities, lanes = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local keys = {pending = KEYS[5], urgent = KEYS[6], scheduled = KEYS[7], retry = KEYS[8], meta = KEYS[9], events = KEYS[10],
  aggregating = KEYS[11], grouped = KEYS[12], groups = KEYS[13], idle = KEYS[16], owner = KEYS[17]}
local fired, lock_ends = KEYS[14], KEYS[15]
keys.archived, keys.completed, keys.active, keys.leases = KEYS[18], KEYS[19], KEYS[20], KEYS[21]
local now, publish = clock(ARGV[1]), ARGV[4]
local before = seen(lanes, ARGV[2], ARGV[3])
if before then return before end

local specials = tonumber(ARGV[5])
local first = 6 + specials * 9
local count = (#ARGV + 1 - first) / 2
local ids = {}
for i = 1, count do ids[i] = ARGV[first + 2 * i - 2] end

-- What stands in the way of those that are refused is the task of `holders`, if it is one.
local conflicts, refused, holders = {}, {}, {}
local taken = redis.call('HMGET', tasks, unpack(ids))
for i = 1, count do
  if taken[i] then
    refused[i] = #conflicts + 1
    conflicts[refused[i]], holders[refused[i]] = (i - 1) .. ' id', ids[i]
  end
end

if specials == 0 and #conflicts == 0 then
  whole(function()
    redis.call('HSET', tasks, unpack(ARGV, first))
    push(keys, ids, {}, publish)
  end, function() redis.call('HDEL', tasks, unpack(ids)) end)
  note(lanes, ARGV[2], ARGV[3], now, '')
  return now
end

-- The locks that are held and not over, those of this batch among them.
local held, asked = {}, {}
for at = 6, first - 1, 9 do
  if ARGV[at + 4] ~= '' then asked[#asked + 1] = ARGV[at + 4] end
end
if #asked > 0 then
  local found = redis.call('HMGET', locks, unpack(asked))
  for i, key in ipairs(asked) do
    local ends, holder = (found[i] or ''):match('^(%d+)w?:(.*)$')
    if ends and tonumber(ends) > now then held[key] = holder end
  end
end

local special, lock, ends_at, urgent_ids, grouped = {}, {}, {}, {}, {}
for at = 6, first - 1, 9 do
  local i, key = tonumber(ARGV[at]), ARGV[at + 4]
  special[i] = at
  local tick, tolerance, entry = ARGV[at + 8]:match('^(%d+),(%d+):(.*)$')
  if tick then
    -- Before all else: a tick that was fired is done, even if the task is refused. A last tick too far ahead is that
    -- of a clock that was wrong.
    tick = tonumber(tick)
    local last = tonumber(redis.call('HGET', fired, entry) or '')
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
      local ends = int(now + ARGV[at + 5])
      lock[#lock + 1], lock[#lock + 2] = key, ends .. ARGV[at + 6] .. ':' .. ids[i]
      ends_at[#ends_at + 1], ends_at[#ends_at + 2] = ends, key
    end
  end
  if not refused[i] and tick then redis.call('HSET', fired, entry, int(tick)) end
  if not refused[i] and ARGV[at + 7] ~= '' then
    grouped[#grouped + 1], grouped[#grouped + 2] = ids[i], ARGV[at + 7]
  end
  if not refused[i] and ARGV[at + 3] ~= '0' then
    urgent_ids[#urgent_ids + 1], urgent_ids[#urgent_ids + 2] = ids[i], ARGV[at + 3]
  end
end

local put, plain, urgent, scheduled = {}, {}, {}, {}
for i = 1, count do
  if not refused[i] then
    local id, at = ids[i], special[i]
    put[#put + 1], put[#put + 2] = id, ARGV[first + 2 * i - 1]
    local due, priority = now, '0'
    if at then
      priority = ARGV[at + 3]
      if ARGV[at + 1] == '+' then
        due = now + ARGV[at + 2]
      elseif ARGV[at + 1] == '@' then
        due = tonumber(ARGV[at + 2])
      end
    end
    if at and ARGV[at + 7] ~= '' then
      -- It waits in its group.
    elseif due > now then
      scheduled[#scheduled + 1], scheduled[#scheduled + 2] = int(due), id
    elseif priority ~= '0' then
      urgent[#urgent + 1], urgent[#urgent + 2] = id, tonumber(priority)
    else
      plain[#plain + 1] = id
    end
  end
end
local function accept()
  -- First, since it is what a Redis without memory refuses: so nothing is half done.
  if #put > 0 then redis.call('HSET', tasks, unpack(put)) end
  if #lock > 0 then
    redis.call('HSET', locks, unpack(lock))
    redis.call('ZADD', lock_ends, unpack(ends_at))
  end
  if #urgent_ids > 0 then redis.call('HSET', priorities, unpack(urgent_ids)) end
  wait(keys, scheduled, {}, publish)
  join(keys, grouped, now, publish)
  push(keys, plain, urgent, publish)
end
whole(accept, function()
  for i = 1, #put, 2 do redis.call('HDEL', tasks, put[i]) end
  for i = 1, #lock, 2 do
    redis.call('HDEL', locks, lock[i])
    redis.call('ZREM', lock_ends, lock[i])
  end
  for i = 1, #scheduled, 2 do redis.call('ZREM', keys.scheduled, scheduled[i + 1]) end
  for i = 1, #grouped, 2 do redis.call('HDEL', keys.aggregating, grouped[i]) end
  -- Where the list has taken them, they are at its left end.
  for i = 1, #plain do redis.call('LREM', keys.pending, 1, plain[i]) end
end)
if #conflicts == 0 then
  note(lanes, ARGV[2], ARGV[3], now, '')
  return now
end

-- The states of those that stand in the way, each looked up once.
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
note(lanes, ARGV[2], ARGV[3], now, answer)
return {now, answer}
