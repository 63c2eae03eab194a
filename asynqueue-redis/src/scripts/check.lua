-- Counts the tasks and their entries, which are equal while a queue is consistent.
-- Without any tasks, for example after Redis evicted them, the entries are removed and counted too.
-- Returns both numbers, then the size of each of the hashes and the set beside the tasks.
local length = redis.call('LLEN', pending)
local entries = length - (redis.call('HGET', meta, 'stale') or 0) + redis.call('HLEN', aggregating)
for _, list in ipairs({urgent, active, scheduled, retry, archived, completed}) do entries = entries + redis.call('ZCARD', list) end
local count = redis.call('HLEN', tasks)
if count == 0 and (entries > 0 or length > 0) then
  redis.call('UNLINK', pending, gone, aggregating, grouped, groups, leases, urgent, active, scheduled, retry, archived,
    completed)
  redis.call('HDEL', meta, 'stale')
  redis.call('HINCRBY', stats, 'repaired', entries)
  entries = 0
end
-- The index is removed when more than half of it is left over from builds that do not maintain it.
if redis.call('HLEN', leases) > 2 * redis.call('ZCARD', active) then redis.call('UNLINK', leases) end
return {count, entries, redis.call('HLEN', locks), redis.call('ZCARD', lock_ends), redis.call('HLEN', waiters),
  redis.call('HLEN', lanes), redis.call('HLEN', workers)}
