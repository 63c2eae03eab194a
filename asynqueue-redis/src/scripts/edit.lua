-- Changes single tasks on demand, each only if it still is as whoever asks has seen it.
-- ARGV: clock, publish, lane, number; then of each task: what to do (cancel, delete, run, put, pend, shelve, or the time to wait for), id, state and envelope as seen, new envelope or the
-- reason to cancel, priority, lock ('' none), whether the lock ends with the task ('y') and its time to live.
-- Answers each, a letter: 'y' done, 'n' refused, '?' it is not as it was seen.
local keys = {tasks = KEYS[1], urgent = KEYS[2], scheduled = KEYS[3], retry = KEYS[4], archived = KEYS[5],
  completed = KEYS[6], active = KEYS[7], pending = KEYS[8], meta = KEYS[9], events = KEYS[10],
  aggregating = KEYS[19], grouped = KEYS[20], groups = KEYS[21], idle = KEYS[23], owner = KEYS[24],
  leases = KEYS[26]}
local locks, results, priorities, since, gone, cancels, waiters, done =
  KEYS[11], KEYS[12], KEYS[13], KEYS[14], KEYS[15], KEYS[16], KEYS[17], KEYS[18]
local lock_ends, lanes = KEYS[22], KEYS[25]
local now, publish = clock(ARGV[1]), ARGV[2]
local before = seen(lanes, ARGV[3], ARGV[4])
if before then return before end
local ids = {}
for at = 5, #ARGV, 9 do ids[#ids + 1] = ARGV[at + 1] end
local bodies = redis.call('HMGET', keys.tasks, unpack(ids))
local states = places(keys, ids, bodies)

-- Who holds a lock, and whether its time is over.
local function holder(key)
  local ends, id = (redis.call('HGET', locks, key) or ''):match('^(%d+)w?:(.*)$')
  return id, ends and tonumber(ends) <= now
end

-- Takes a task out of the list it waits or is kept in.
local function unlist(id, state)
  if state == 'pending' then
    if redis.call('ZREM', keys.urgent, id) == 0 then
      -- A search in the list would take as long as the list is: it is marked, and passed over in its turn.
      redis.call('HINCRBY', gone, id, 1)
      if redis.call('HINCRBY', keys.meta, 'stale', 1) >= redis.call('LLEN', keys.pending) then
        redis.call('UNLINK', keys.pending, gone)
        redis.call('HDEL', keys.meta, 'stale')
      end
    end
    redis.call('HDEL', since, id)
  elseif state == 'aggregating' then
    leave(keys, {id})
  else
    redis.call('ZREM', keys[state], id)
  end
end

local function unlock(at, id)
  local key = ARGV[at + 6]
  if key ~= '' and ARGV[at + 7] == 'y' and holder(key) == id then
    redis.call('HDEL', locks, key)
    redis.call('ZREM', lock_ends, key)
  end
end

local function tell(id, end_)
  if redis.call('HDEL', waiters, id) == 1 then redis.call(publish, done, id .. '\n' .. end_) end
end

local change = {}

function change.cancel(at, id, state)
  if state == 'active' then
    redis.call('HSETNX', cancels, id, ARGV[at + 4])
    redis.call(publish, keys.events, 'c' .. id)
  else
    unlist(id, state)
    redis.call('HSET', keys.tasks, id, ARGV[at + 4])
    redis.call('ZADD', keys.archived, int(now), id)
    unlock(at, id)
    tell(id, 'a')
  end
  return 'y'
end

function change.delete(at, id, state)
  unlist(id, state)
  redis.call('HDEL', keys.tasks, id)
  redis.call('HDEL', priorities, id)
  redis.call('HDEL', results, id)
  unlock(at, id)
  tell(id, 'g')
  return 'y'
end

-- Takes the lock again that a task gave back when it was archived. Answers whether it has it.
local function lock_again(at, id, state)
  local key = ARGV[at + 6]
  if state ~= 'archived' or key == '' then return true end
  local held, is_over = holder(key)
  if held and held ~= id and not is_over then return false end
  if not held or is_over then
    local ends = int(now + ARGV[at + 8])
    redis.call('HSET', locks, key, ends .. (ARGV[at + 7] == 'y' and ':' or 'w:') .. id)
    redis.call('ZADD', lock_ends, ends, key)
  end
  return true
end

function change.put(at, id)
  redis.call('HSET', keys.tasks, id, ARGV[at + 4])
  return 'y'
end

change.shelve = change.cancel

function change.run(at, id, state)
  if not lock_again(at, id, state) then return 'n' end
  unlist(id, state)
  redis.call('HSET', since, id, int(now))
  local priority = tonumber(ARGV[at + 5])
  if priority > 0 then
    redis.call('HSET', priorities, id, priority)
    push(keys, {}, {id, priority}, publish)
  else
    push(keys, {id}, {}, publish)
  end
  return 'y'
end

function change.pend(at, id, state)
  local answer = change.run(at, id, state)
  return answer == 'y' and change.put(at, id) or answer
end

-- Lets a task wait for a time.
local function schedule(at, id, state)
  if tonumber(ARGV[at]) <= now then return change.pend(at, id, state) end
  if not lock_again(at, id, state) then return 'n' end
  unlist(id, state)
  if ARGV[at + 5] ~= '0' then redis.call('HSET', priorities, id, ARGV[at + 5]) end
  wait(keys, {ARGV[at], id}, {}, publish)
  return change.put(at, id)
end

local answers = {}
for at = 5, #ARGV, 9 do
  local i, id = #answers + 1, ARGV[at + 1]
  if states[i] ~= ARGV[at + 2] or bodies[i] ~= ARGV[at + 3] then
    answers[i] = '?'
  else
    answers[i] = (change[ARGV[at]] or schedule)(at, id, states[i])
  end
end
local answer = table.concat(answers)
note(lanes, ARGV[3], ARGV[4], now, answer)
return answer
