-- Where tasks are: of each id its state ('' none), what time goes with that, and its lease if it is active.
local function places(keys, ids)
  local bodies = redis.call('HMGET', keys.tasks, unpack(ids))
  local states, times, leases, sought = {}, {}, {}, {}
  local searching = false
  local function look(key, state)
    if redis.call('EXISTS', key) == 0 then return end
    for i, time in ipairs(redis.call('ZMSCORE', key, unpack(ids))) do
      if time and bodies[i] then states[i], times[i] = state, time end
    end
  end
  look(keys.urgent, 'pending')
  look(keys.scheduled, 'scheduled')
  look(keys.retry, 'retry')
  look(keys.archived, 'archived')
  look(keys.completed, 'completed')
  if redis.call('EXISTS', keys.aggregating) == 1 then
    for i, kept in ipairs(redis.call('HMGET', keys.aggregating, unpack(ids))) do
      if kept and bodies[i] then states[i], times[i] = 'aggregating', '' end
    end
  end
  for i, id in ipairs(ids) do
    if not bodies[i] then
      states[i] = ''
    elseif not states[i] then
      -- Else it is in the list of pending tasks, which only a walk through all of it would tell.
      states[i], times[i] = 'pending', ''
      sought[id] = sought[id] or {}
      table.insert(sought[id], i)
      searching = true
    end
  end
  -- Leases are found by their end, not by their task: it is only here that someone asks for that.
  local count = searching and redis.call('ZCARD', keys.active) or 0
  for first = 0, count - 1, 1000 do
    local active = redis.call('ZRANGE', keys.active, first, first + 999, 'WITHSCORES')
    for j = 1, #active, 2 do
      for _, i in ipairs(sought[active[j]:sub(17)] or {}) do
        states[i], times[i], leases[i] = 'active', active[j + 1], active[j]
      end
    end
  end
  return states, times, leases, bodies
end
