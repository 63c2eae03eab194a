-- Counts the tasks, and the entries that say where one is: in each task's life these are the same number.
-- Without any tasks, as when Redis has evicted them, the entries go too, and are counted.
-- Answers both numbers, then how many there are of each of the hashes and the set that are kept beside the tasks.
local tasks, pending, meta, gone, stats = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local locks, lock_ends, waiters, lanes, fired = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local workers, aggregating, leases, active = KEYS[11], KEYS[12], KEYS[15], KEYS[17]
local length = redis.call('LLEN', pending)
local entries = length - (redis.call('HGET', meta, 'stale') or 0) + redis.call('HLEN', aggregating)
for i = 16, #KEYS do entries = entries + redis.call('ZCARD', KEYS[i]) end
local count = redis.call('HLEN', tasks)
if count == 0 and (entries > 0 or length > 0) then
  redis.call('UNLINK', pending, gone, unpack(KEYS, 12))
  redis.call('HDEL', meta, 'stale')
  redis.call('HINCRBY', stats, 'repaired', entries)
  entries = 0
end
-- What builds that know of no index have left in it goes when it is more than half of it.
if redis.call('HLEN', leases) > 2 * redis.call('ZCARD', active) then redis.call('UNLINK', leases) end
return {count, entries, redis.call('HLEN', locks), redis.call('ZCARD', lock_ends), redis.call('HLEN', waiters),
  redis.call('HLEN', lanes), redis.call('HLEN', fired), redis.call('HLEN', workers)}
