-- Wakes a server for each of `count` pending tasks. Instances in `idle` that have waited longest are woken first, so
-- that the work is spread. If no message reaches an instance, it has ended, and the next one takes its place. If none
-- waits and the queue was empty, all listeners are woken: servers of older versions are not in `idle`.
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

-- The tasks stay pending if this fails, and servers also poll.
local function wake(keys, count, was_empty, publish) pcall(try_wake, keys, count, was_empty, publish) end
