-- Returns the holder of a lock, and whether the lock has expired.
local function holder(keys, lock, now)
  local ends, id = (redis.call('HGET', keys.locks, lock) or ''):match('^(%d+)w?:(.*)$')
  return id, ends and tonumber(ends) <= now
end

-- Gives a lock to a task until a time. `window` is 'w' if the lock can outlive the task.
local function hold(keys, lock, id, ends, window)
  redis.call('HSET', keys.locks, lock, ends .. window .. ':' .. id)
  redis.call('ZADD', keys.lock_ends, ends, lock)
end

-- Releases a lock, if this task holds it.
local function let_go(keys, lock, id, now)
  if holder(keys, lock, now) == id then
    redis.call('HDEL', keys.locks, lock)
    redis.call('ZREM', keys.lock_ends, lock)
  end
end
