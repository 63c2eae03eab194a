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
