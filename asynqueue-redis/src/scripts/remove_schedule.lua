-- Removes a schedule entry with the outcomes of its ticks, and remembers that. ARGV: clock, lane, number, for how many milliseconds, a
-- mark that was never before, its name. Answers the entry ('' none).
local entries, due, mark, removed, events, lanes = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local now, name = clock(ARGV[1]), ARGV[6]
local before = seen(lanes, ARGV[2], ARGV[3])
if before then return before end
local entry = redis.call('HGET', entries, name) or ''
redis.call('ZREM', due, name)
redis.call('UNLINK', events)
redis.call('HDEL', entries, name)
redis.call('ZADD', removed, int(now), name)
redis.call('PEXPIRE', removed, ARGV[4])
redis.call('SET', mark, ARGV[5])
note_beside(lanes, ARGV[2], ARGV[3], now, entry)
return entry
