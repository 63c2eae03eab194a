-- Reports when the first task is due: to the owner of the queue, or to all if there is none.
local function announce(keys, first, publish)
  local owner, due = redis.call('GET', keys.owner), 'd' .. int(first)
  if not owner or redis.call(publish, keys.events .. ':' .. owner, due) == 0 then
    redis.call(publish, keys.events, due)
  end
end

-- Schedules tasks (due, id, due, id, …), and sends a signal if one is due before all others.
local function wait(keys, scheduled, retry, publish)
  if #scheduled == 0 and #retry == 0 then return end
  local before = first_due(keys)
  if #scheduled > 0 then redis.call('ZADD', keys.scheduled, unpack(scheduled)) end
  if #retry > 0 then redis.call('ZADD', keys.retry, unpack(retry)) end
  local first = first_due(keys)
  if not before or first < before then announce(keys, first, publish) end
end
