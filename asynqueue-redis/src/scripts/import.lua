-- Puts tasks of another store into exactly the state that they had there. No task occurs twice in a call.
-- Arguments of each task: the version of the stored task that it replaces, as in edit.lua ('' none), its new state, the
-- time of that state ('' for a pending task: since it was enqueued), 'r' and the result ('' none), its lock ('' none),
-- when the lock ends if the task takes it ('' if it does not), 'w' if the lock can outlive the task, and the limits and
-- the name of its group.
-- Returns a letter for each: 'y' done, 'e' the id is taken, '?' the task to be replaced has changed or cannot be.
local now = clock(not_after)
local before = seen(lanes, lane, number)
if before then return before end
local ids = {}
for at = ROWS, #ARGV, TASK_ROW do ids[#ids + 1] = ARGV[at + ID] end
local bodies = redis.call('HMGET', tasks, unpack(ids))
local states = places(keys, ids, bodies)

local put = {}

function put.pending(at, id)
  if ARGV[at + TIME] ~= '' then redis.call('HSET', since, id, ARGV[at + TIME]) end
  local priority = tonumber(ARGV[at + PRIORITY])
  if priority > 0 then push(keys, {}, {id, priority}, publish) else push(keys, {id}, {}, publish) end
end

function put.scheduled(at, id) wait(keys, {ARGV[at + TIME], id}, {}, publish) end

function put.retry(at, id) wait(keys, {}, {ARGV[at + TIME], id}, publish) end

function put.aggregating(at, id) join(keys, {id, ARGV[at + GROUP]}, tonumber(ARGV[at + TIME]), publish) end

function put.completed(at, id)
  redis.call('ZADD', completed, ARGV[at + TIME], id)
  if ARGV[at + RESULT] ~= '' then redis.call('HSET', results, id, ARGV[at + RESULT]:sub(2)) end
end

function put.archived(at, id) redis.call('ZADD', archived, ARGV[at + TIME], id) end

-- What the end of a stored task has as a consequence.
local function finish(at, id)
  if ARGV[at + LOCK] ~= '' and ARGV[at + WINDOW] == '' then let_go(keys, ARGV[at + LOCK], id, now) end
  local ending = ARGV[at + STATE] == 'completed' and 'k' or 'a'
  if redis.call('HDEL', waiters, id) == 1 then redis.call(publish, done, id .. '\n' .. ending) end
end

local function import(at, id, old)
  -- First, because this is what a Redis without memory refuses, so that nothing is half done.
  redis.call('HSET', tasks, id, ARGV[at + ENVELOPE])
  if old ~= '' then unlist(keys, id, old) end
  if ARGV[at + ENDS] ~= '' then
    local held, is_over = holder(keys, ARGV[at + LOCK], now)
    if not held or is_over then hold(keys, ARGV[at + LOCK], id, ARGV[at + ENDS], ARGV[at + WINDOW]) end
  end
  if ARGV[at + PRIORITY] ~= '0' then redis.call('HSET', priorities, id, ARGV[at + PRIORITY]) end
  local state = ARGV[at + STATE]
  put[state](at, id)
  if old ~= '' and (state == 'completed' or state == 'archived') then finish(at, id) end
end

local answers = {}
for at = ROWS, #ARGV, TASK_ROW do
  local i, id, version = #answers + 1, ARGV[at + ID], ARGV[at + VERSION]
  local state, body = states[i], bodies[i]
  if version == '' and body then
    answers[i] = 'e'
  elseif version ~= '' and (not body or state == 'active' or state == 'completed' or
    redis.sha1hex(state .. '\n' .. body):sub(1, 16) ~= version) then
    answers[i] = '?'
  else
    import(at, id, state)
    answers[i] = 'y'
  end
end
local answer = table.concat(answers)
note(lanes, lane, number, now, answer)
return answer
