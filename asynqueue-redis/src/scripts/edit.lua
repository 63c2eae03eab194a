-- Changes single tasks on demand, each only if it still has the version that was seen: the first 16 digits of the SHA-1
-- of its state, a line break and its envelope.
-- Arguments of each task: what to do (cancel it while it is active, delete it, put a new envelope in its place, pend
-- it, shelve it in the archive, or the time to wait for), the new envelope ('' for no change) or the reason of the
-- cancellation, the lock that it takes or releases ('' none), and whether the lock ends with the task ('y').
-- Returns a letter for each: 'y' done, '?' it has changed, 'l' its lock is held by another task, 'n' impossible in this
-- state.
local now = clock(not_after)
local before = seen(lanes, lane, number)
if before then return before end
local ids = {}
for at = ROWS, #ARGV, TASK_ROW do ids[#ids + 1] = ARGV[at + ID] end
local bodies = redis.call('HMGET', tasks, unpack(ids))
local states = places(keys, ids, bodies)

local function unlock(at, id)
  local key = ARGV[at + LOCK]
  if key ~= '' and ARGV[at + ENDS] == 'y' then let_go(keys, key, id, now) end
end

local function tell(id, end_)
  if redis.call('HDEL', waiters, id) == 1 then redis.call(publish, done, id .. '\n' .. end_) end
end

-- Replaces the envelope.
local function put(at, id)
  if ARGV[at + NEW] ~= '' then redis.call('HSET', tasks, id, ARGV[at + NEW]) end
end

-- Takes again the lock that a task released when it was archived. Returns whether it has the lock.
local function lock_again(at, id, state)
  local key = ARGV[at + LOCK]
  if state ~= 'archived' or key == '' then return true end
  local held, is_over = holder(keys, key, now)
  if held and held ~= id and not is_over then return false end
  if not held or is_over then
    hold(keys, key, id, int(now + ARGV[at + TTL]), ARGV[at + ENDS] == 'y' and '' or 'w')
  end
  return true
end

local change = {}

function change.cancel(at, id)
  redis.call('HSETNX', cancels, id, ARGV[at + NEW])
  redis.call(publish, events, 'c' .. id)
  return 'y'
end

function change.delete(at, id, state)
  unlist(keys, id, state)
  redis.call('HDEL', tasks, id)
  redis.call('HDEL', priorities, id)
  redis.call('HDEL', results, id)
  unlock(at, id)
  tell(id, 'g')
  return 'y'
end

function change.put(at, id)
  put(at, id)
  return 'y'
end

function change.shelve(at, id, state)
  unlist(keys, id, state)
  put(at, id)
  redis.call('ZADD', archived, int(now), id)
  unlock(at, id)
  tell(id, 'a')
  return 'y'
end

function change.pend(at, id, state)
  if not lock_again(at, id, state) then return 'l' end
  unlist(keys, id, state)
  put(at, id)
  redis.call('HSET', since, id, int(now))
  local priority = tonumber(ARGV[at + PRIORITY])
  if priority > 0 then
    redis.call('HSET', priorities, id, priority)
    push(keys, {}, {id, priority}, publish)
  else
    push(keys, {id}, {}, publish)
  end
  return 'y'
end

-- Schedules a task.
local function schedule(at, id, state)
  if tonumber(ARGV[at + EDIT]) <= now then return change.pend(at, id, state) end
  if not lock_again(at, id, state) then return 'l' end
  unlist(keys, id, state)
  put(at, id)
  if ARGV[at + PRIORITY] ~= '0' then redis.call('HSET', priorities, id, ARGV[at + PRIORITY]) end
  wait(keys, {ARGV[at + EDIT], id}, {}, publish)
  return 'y'
end

-- Returns whether a change is possible in this state.
local function is_possible(edit, state)
  if edit == 'cancel' then return state == 'active' end
  return state ~= 'active' and (edit == 'delete' or state ~= 'completed')
end

local answers = {}
for at = ROWS, #ARGV, TASK_ROW do
  local i, id, edit = #answers + 1, ARGV[at + ID], ARGV[at + EDIT]
  local state, body = states[i], bodies[i]
  if not body or redis.sha1hex(state .. '\n' .. body):sub(1, 16) ~= ARGV[at + VERSION] then
    answers[i] = '?'
  elseif not is_possible(edit, state) then
    answers[i] = 'n'
  else
    answers[i] = (change[edit] or schedule)(at, id, state)
  end
end
local answer = table.concat(answers)
note(lanes, lane, number, now, answer)
return answer
