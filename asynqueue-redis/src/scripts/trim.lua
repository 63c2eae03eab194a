-- Deletes finished tasks and hourly counts that are past their retention, at most `limit` tasks. Deleted archived tasks
-- are counted in the same step. They are kept for `archived_for` milliseconds, and at most `archived_max` of them. An
-- instance waits at most `idle_max` milliseconds without a new lease call.
-- Returns how many it deleted: completed, archived beyond that number, archived too long; and how many archived tasks
-- remain.
local now, keep, most = clock(not_after), tonumber(archived_max), tonumber(limit)
local deleted = 0
local function delete(key, ids)
  if #ids == 0 then return 0 end
  redis.call('ZREM', key, unpack(ids))
  redis.call('HDEL', tasks, unpack(ids))
  redis.call('HDEL', results, unpack(ids))
  redis.call('HDEL', priorities, unpack(ids))
  deleted = deleted + #ids
  return #ids
end
local function until_now(key, last)
  if deleted == most then return {} end
  return redis.call('ZRANGE', key, '-inf', int(last), 'BYSCORE', 'LIMIT', 0, most - deleted)
end
local size = redis.call('ZCARD', archived)
-- Lets users of the inspector see how near the queue is to its limit.
if size > 0 and redis.call('HGET', stats, 'archived_max') ~= archived_max then
  redis.call('HSET', stats, 'archived_max', archived_max)
end
local beyond, by_count = math.min(size - keep, most), 0
if beyond > 0 then by_count = delete(archived, redis.call('ZRANGE', archived, 0, beyond - 1)) end
local of_completed = delete(completed, until_now(completed, now))
local by_age = delete(archived, until_now(archived, now - archived_for))
if by_count > 0 then redis.call('HINCRBY', stats, 'trimmed_by_count', by_count) end
if by_age > 0 then redis.call('HINCRBY', stats, 'trimmed_by_age', by_age) end
if by_count + by_age > 0 then redis.call('HSET', stats, 'trimmed_at', int(now)) end
-- Only from time to time: each hour has up to three counts, and one more day of them is tolerated.
if redis.call('HLEN', hours) > 3 * hours_kept + 72 then
  local oldest, old = math.floor(now / 3600000) - hours_kept, {}
  for _, hour in ipairs(redis.call('HKEYS', hours)) do
    if tonumber(hour:sub(2)) < oldest and #old < 1000 then old[#old + 1] = hour end
  end
  if #old > 0 then redis.call('HDEL', hours, unpack(old)) end
end
-- Left over from ended processes, if no task was enqueued since.
redis.call('ZREMRANGEBYSCORE', idle, '-inf', int(now - idle_max))
return {of_completed, by_count, by_age, size - by_count - by_age}
