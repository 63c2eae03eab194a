-- Counts the tasks, and the entries that say where one is: in each task's life these are the same number.
-- Without any tasks, as when Redis has evicted them, the entries go too, and are counted.
-- Answers both numbers, then how many there are of each of the hashes and the set that are kept beside the tasks.
local tasks, pending, meta, gone, stats = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local locks, lock_ends, waiters, lanes, fired = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local aggregating = KEYS[11]
local length = redis.call('LLEN', pending)
local entries = length - (redis.call('HGET', meta, 'stale') or 0) + redis.call('HLEN', aggregating)
for i = 14, #KEYS do entries = entries + redis.call('ZCARD', KEYS[i]) end
local count = redis.call('HLEN', tasks)
if count == 0 and (entries > 0 or length > 0) then
  redis.call('UNLINK', pending, gone, unpack(KEYS, 11))
  redis.call('HDEL', meta, 'stale')
  redis.call('HINCRBY', stats, 'repaired', entries)
  entries = 0
end
return {count, entries, redis.call('HLEN', locks), redis.call('ZCARD', lock_ends), redis.call('HLEN', waiters),
  redis.call('HLEN', lanes), redis.call('HLEN', fired), redis.call('HLEN', meta)}
