-- Removes a schedule entry with the outcomes of its ticks. ARGV: its name. Answers the entry, if there was one.
local entries, due, events = KEYS[1], KEYS[2], KEYS[3]
local entry = redis.call('HGET', entries, ARGV[1])
redis.call('ZREM', due, ARGV[1])
redis.call('UNLINK', events)
redis.call('HDEL', entries, ARGV[1])
return entry
