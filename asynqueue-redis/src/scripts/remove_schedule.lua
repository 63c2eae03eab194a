-- Removes a schedule entry with the outcomes of its ticks. ARGV: clock, lane, number, its name. Answers the entry ('' none).
local entries, due, events, lanes = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local now = clock(ARGV[1])
local before = seen(lanes, ARGV[2], ARGV[3])
if before then return before end
local entry = redis.call('HGET', entries, ARGV[4]) or ''
redis.call('ZREM', due, ARGV[4])
redis.call('UNLINK', events)
redis.call('HDEL', entries, ARGV[4])
note_beside(lanes, ARGV[2], ARGV[3], now, entry)
return entry
