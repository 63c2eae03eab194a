-- Records outcomes.
-- There are `simple` tasks that simply complete and are removed, and others, each with an outcome: complete, drop,
-- archive, cancelled (archived on request), retry, snooze, release. `marks` are 'x' if it counts only once expired, and
-- 'f' if the attempt failed; one with both was lost. `envelope` is '' for no change. `millis` is how long the task is
-- kept, or waits. `lock` is '-' and a key to release it, or the time to live, ':' and a key to take it again if it is
-- free. `result` is 'r' and the result ('' none).
-- Returns the tasks that are not recorded, one per line: the index and 'stale', or 'cancel' if it is to be cancelled.
local now = clock(not_after)
local before = seen(lanes, lane, number)
if before then return before end

local members, ids, count, completing = {}, {}, 0, tonumber(simple)
local others = ROWS + completing * SIMPLE_ROW
for at = ROWS, others - 1, SIMPLE_ROW do
  count = count + 1
  members[count], ids[count] = ARGV[at + LEASE], ARGV[at + ID]
end
for at = others, #ARGV, OTHER_ROW do
  count = count + 1
  members[count], ids[count] = ARGV[at + LEASE], ARGV[at + ID]
end
local ends = redis.call('ZMSCORE', active, unpack(members))
-- Few tasks have any of these: usually one lookup shows it.
local rare = redis.call('EXISTS', cancels, progress, priorities, waiters, leases) > 0
local asked = rare and redis.call('EXISTS', cancels) == 1 and redis.call('HMGET', cancels, unpack(ids))

local answers, ended, delete, free = {}, {}, {}, {}
local put, plain, first, later, again, archive, keep, result, front = {}, {}, {}, {}, {}, {}, {}, {}, {}
local final, pended, locking = {}, {}, {}
local succeeded, failed, lost = 0, 0, 0
for i = 1, count do
  local id, at = ids[i], others + (i - completing - 1) * OTHER_ROW
  local outcome = i <= completing and 'complete' or ARGV[at + OUTCOME]
  local marks = i > completing and ARGV[at + MARKS] or ''
  if not ends[i] or (marks:find('x') and tonumber(ends[i]) > now) then
    answers[#answers + 1] = (i - 1) .. ' stale'
  elseif asked and asked[i] and outcome ~= 'complete' and outcome ~= 'drop' and outcome ~= 'cancelled' then
    answers[#answers + 1] = (i - 1) .. ' cancel'
  else
    ended[#ended + 1] = members[i]
    free[#free + 1] = id
    local priority = '0'
    if i > completing then
      priority = ARGV[at + PRIORITY]
      if ARGV[at + LOCK] ~= '' then
        locking[#locking + 1], locking[#locking + 2] = ARGV[at + LOCK], id
      end
    end
    if outcome == 'complete' then
      succeeded = succeeded + 1
      if i > completing and ARGV[at + MILLIS] ~= '0' then
        put[#put + 1], put[#put + 2] = id, ARGV[at + ENVELOPE]
        keep[#keep + 1], keep[#keep + 2] = int(now + ARGV[at + MILLIS]), id
        if ARGV[at + RESULT] ~= '' then
          result[#result + 1], result[#result + 2] = id, ARGV[at + RESULT]:sub(2)
        end
        -- The waiter of this task reads the result. Waiters of other tasks do not receive it.
        final[#final + 1], final[#final + 2] = id, 'k'
      else
        delete[#delete + 1] = id
        final[#final + 1], final[#final + 2] = id, 'c' .. (i > completing and ARGV[at + RESULT] or '')
      end
    elseif outcome == 'drop' then
      delete[#delete + 1] = id
      final[#final + 1], final[#final + 2] = id, 'g'
    else
      if ARGV[at + ENVELOPE] ~= '' then put[#put + 1], put[#put + 2] = id, ARGV[at + ENVELOPE] end
      if marks:find('f') then
        if marks:find('x') then lost = lost + 1 else failed = failed + 1 end
      end
      if outcome == 'archive' or outcome == 'cancelled' then
        archive[#archive + 1], archive[#archive + 2] = int(now), id
        final[#final + 1], final[#final + 2] = id, 'a'
      elseif outcome == 'release' then
        front[#front + 1], front[#front + 2] = id, priority
        pended[#pended + 1], pended[#pended + 2] = id, int(now)
      elseif ARGV[at + MILLIS] ~= '0' then
        local list = outcome == 'retry' and again or later
        list[#list + 1], list[#list + 2] = int(now + ARGV[at + MILLIS]), id
      else
        if priority ~= '0' then
          first[#first + 1], first[#first + 2] = id, tonumber(priority)
        else
          plain[#plain + 1] = id
        end
        pended[#pended + 1], pended[#pended + 2] = id, int(now)
      end
    end
  end
end

local function record()
  -- First what frees memory: then a Redis without memory does not refuse the rest of the change.
  if #ended > 0 then redis.call('ZREM', active, unpack(ended)) end
  if #delete > 0 then
    redis.call('HDEL', tasks, unpack(delete))
    if rare and redis.call('EXISTS', priorities) == 1 then redis.call('HDEL', priorities, unpack(delete)) end
  end
  if rare and #free > 0 then
    unindex(active, leases, free)
    if asked then redis.call('HDEL', cancels, unpack(free)) end
    if redis.call('EXISTS', progress) == 1 then redis.call('HDEL', progress, unpack(free)) end
  end
  if #locking > 0 then
    -- In their order, as if each were settled separately.
    local names, held, changed = {}, {}, {}
    for i = 1, #locking, 2 do names[#names + 1] = locking[i]:match('^%d*[-:](.*)$') end
    for i, lock in ipairs(redis.call('HMGET', locks, unpack(names))) do held[names[i]] = lock or nil end
    for i, name in ipairs(names) do
      local ttl, id = locking[2 * i - 1]:match('^(%d+):'), locking[2 * i]
      local ends, holder = (held[name] or ''):match('^(%d+)w?:(.*)$')
      if not ttl and holder == id then
        held[name], changed[name] = nil, true
      elseif ttl and (not ends or tonumber(ends) <= now) then
        held[name], changed[name] = int(now + ttl) .. ':' .. id, true
      end
    end
    local over, taken, ends_at = {}, {}, {}
    for name in pairs(changed) do
      if held[name] then
        taken[#taken + 1], taken[#taken + 2] = name, held[name]
        ends_at[#ends_at + 1], ends_at[#ends_at + 2] = held[name]:match('^%d+'), name
      else
        over[#over + 1] = name
      end
    end
    if #over > 0 then
      redis.call('HDEL', locks, unpack(over))
      redis.call('ZREM', lock_ends, unpack(over))
    end
    if #taken > 0 then
      redis.call('HSET', locks, unpack(taken))
      redis.call('ZADD', lock_ends, unpack(ends_at))
    end
  end
  if #put > 0 then redis.call('HSET', tasks, unpack(put)) end
  if #archive > 0 then redis.call('ZADD', archived, unpack(archive)) end
  if #keep > 0 then redis.call('ZADD', completed, unpack(keep)) end
  if #result > 0 then redis.call('HSET', results, unpack(result)) end
  if #pended > 0 then redis.call('HSET', since, unpack(pended)) end
  wait(keys, later, again, publish)
  -- What must not happen twice comes last.
  if #plain + #front > 0 then redis.call('LLEN', pending) end
  local function add(counter, count)
    if count == 0 then return end
    redis.call('HINCRBY', hours, counter:sub(1, 1) .. math.floor(now / 3600000), count)
    redis.call('HINCRBY', stats, counter, count)
  end
  add('succeeded', succeeded)
  add('failed', failed)
  add('lost', lost)
  push(keys, plain, first, publish)
  push_front(keys, front, publish)
  if rare and #final > 0 and redis.call('EXISTS', waiters) == 1 then
    local names = {}
    for i = 1, #final, 2 do names[#names + 1] = final[i] end
    for i, waited in ipairs(redis.call('HMGET', waiters, unpack(names))) do
      if waited then
        redis.call(publish, done, names[i] .. '\n' .. final[2 * i])
        redis.call('HDEL', waiters, names[i])
      end
    end
  end
  local answer = table.concat(answers, '\n')
  note(lanes, lane, number, now, answer)
  return answer
end

-- They stay active, and are recorded when they are sent again.
return whole(record, function()
  local again = {}
  for i = 1, count do
    if ends[i] then again[#again + 1], again[#again + 2] = ends[i], members[i] end
  end
  if #again > 0 then redis.call('ZADD', active, unpack(again)) end
end)
