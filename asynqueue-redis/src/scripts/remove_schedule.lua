-- Removes a schedule entry with the outcomes of its ticks, and remembers that for `removals_kept` milliseconds. `new_mark` is
-- a mark that was never before. Answers the entry ('' none).
local now = clock(not_after)
local before = seen(lanes, lane, number)
if before then return before end
local entry = redis.call('HGET', entries, name) or ''
redis.call('ZREM', due, name)
redis.call('UNLINK', events)
redis.call('HDEL', entries, name)
redis.call('ZADD', removed, int(now), name)
redis.call('PEXPIRE', removed, removals_kept)
redis.call('SET', mark, new_mark)
note_beside(lanes, lane, number, now, entry)
return entry
