-- Moves a schedule entry on, unless it has been changed, and notes the outcome of its tick: `event`, of which `events_kept`
-- are kept. `new` is the entry to put in its place, and `due_at` when that is due ('' never). Answers 'y' done or 'n'.
local now = clock(not_after)
local before = seen(lanes, lane, number)
if before then return before end
if redis.call('HGET', entries, name) ~= seen_entry then return 'n' end
redis.call('HSET', entries, name, new)
if due_at == '' then
  redis.call('ZREM', due, name)
else
  redis.call('ZADD', due, due_at, name)
end
redis.call('LPUSH', events, event)
redis.call('LTRIM', events, 0, events_kept - 1)
note_beside(lanes, lane, number, now, 'y')
return 'y'
