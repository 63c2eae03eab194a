-- Removes a schedule entry with the outcomes of its ticks, and remembers that. ARGV: clock, for how many milliseconds, a mark that was
-- never before, its name. Answers the entry, if there was one.
local entries, due, mark, removed, events = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local now, name = clock(ARGV[1]), ARGV[4]
local entry = redis.call('HGET', entries, name)
redis.call('ZREM', due, name)
redis.call('UNLINK', events)
redis.call('HDEL', entries, name)
redis.call('ZADD', removed, int(now), name)
redis.call('PEXPIRE', removed, ARGV[2])
redis.call('SET', mark, ARGV[3])
return entry
