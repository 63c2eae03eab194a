-- The score of a task with a priority: by priority, then turn. Turns count up at the back and down at the front.
local function score(priority, turn)
  return int((9 - priority) * 2 ^ 48 + 2 ^ 47 + turn)
end

-- Adds plain tasks (ids) and urgent ones (id, priority, id, priority, …) after the pending ones, and wakes servers for
-- them.
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

-- Adds tasks (id, priority, id, priority, …) before the pending ones, the last one first.
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
