-- The score of a task with a priority: by priority, then turn. Turns count up at the back and down at the front.
local function score(priority, turn)
  return int((9 - priority) * 2 ^ 48 + 2 ^ 47 + turn)
end

-- Wakes a server for each of `count` tasks that are pending: of those that wait, whose instances are in `idle`, the ones that
-- have waited longest, so that work is spread. An instance that no message reaches is gone, and the next is in its place. Where
-- none waits and the queue was empty, all that listen are woken: servers of older versions are not in `idle`.
local function try_wake(keys, count, was_empty, publish)
  if not was_empty and redis.call('EXISTS', keys.idle) == 0 then return end
  if redis.call('HGET', keys.meta, 'paused') then return end
  local woken = 0
  while woken < count do
    local idle = redis.call('ZPOPMIN', keys.idle, count - woken)
    if #idle == 0 then break end
    for i = 1, #idle, 2 do
      if redis.call(publish, keys.events .. ':' .. idle[i], 'p') > 0 then woken = woken + 1 end
    end
  end
  if woken == 0 and was_empty then redis.call(publish, keys.events, 'p') end
end

-- The tasks are pending whatever becomes of it, and servers look for them now and then.
local function wake(keys, count, was_empty, publish) pcall(try_wake, keys, count, was_empty, publish) end

-- Puts plain tasks (ids) and urgent ones (id, priority, id, priority, …) behind those that wait, and wakes servers for them.
local function push(keys, plain, urgent, publish)
  local pushed, length = #plain, 0
  if pushed > 0 then
    length = redis.call('LPUSH', keys.pending, unpack(plain))
  elseif #urgent > 0 then
    length = redis.call('LLEN', keys.pending)
  else
    return
  end
  if #urgent > 0 then
    local turn = redis.call('HINCRBY', keys.meta, 'turn', #urgent / 2) - #urgent / 2
    local scored = {}
    for i = 1, #urgent, 2 do
      turn = turn + 1
      scored[i], scored[i + 1] = score(urgent[i + 1], turn), urgent[i]
    end
    redis.call('ZADD', keys.urgent, unpack(scored))
  end
  local was_empty = length == pushed and redis.call('ZCARD', keys.urgent) == #urgent / 2
  wake(keys, pushed + #urgent / 2, was_empty, publish)
end

-- Puts tasks (id, priority, id, priority, …) before those that wait; the last one first.
local function push_front(keys, front, publish)
  if #front == 0 then return end
  local was_empty = redis.call('LLEN', keys.pending) == 0 and redis.call('ZCARD', keys.urgent) == 0
  local plain, urgent = {}, {}
  for i = 1, #front, 2 do
    if front[i + 1] == '0' then
      plain[#plain + 1] = front[i]
    else
      urgent[#urgent + 1], urgent[#urgent + 2] = front[i], tonumber(front[i + 1])
    end
  end
  if #plain > 0 then redis.call('RPUSH', keys.pending, unpack(plain)) end
  if #urgent > 0 then
    local turn = redis.call('HINCRBY', keys.meta, 'front', #urgent / 2) - #urgent / 2
    local scored = {}
    for i = 1, #urgent, 2 do
      turn = turn + 1
      scored[i], scored[i + 1] = score(urgent[i + 1], -turn), urgent[i]
    end
    redis.call('ZADD', keys.urgent, unpack(scored))
  end
  wake(keys, #front / 2, was_empty, publish)
end

-- When the first of those that wait for a time is due.
local function first_due(keys)
  local first
  for _, key in ipairs({keys.scheduled, keys.retry}) do
    local due = tonumber(redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2])
    if due and not (first and first <= due) then first = due end
  end
  return first
end

-- Says when the first task is due: to the instance that looks after the queue, or to all if there is none.
local function announce(keys, first, publish)
  local owner, due = redis.call('GET', keys.owner), 'd' .. int(first)
  if not owner or redis.call(publish, keys.events .. ':' .. owner, due) == 0 then
    redis.call(publish, keys.events, due)
  end
end

-- Lets tasks (due, id, due, id, …) wait for their time, and says so if one is due before all others.
local function wait(keys, scheduled, retry, publish)
  if #scheduled == 0 and #retry == 0 then return end
  local before = first_due(keys)
  if #scheduled > 0 then redis.call('ZADD', keys.scheduled, unpack(scheduled)) end
  if #retry > 0 then redis.call('ZADD', keys.retry, unpack(retry)) end
  local first = first_due(keys)
  if not before or first < before then announce(keys, first, publish) end
end
