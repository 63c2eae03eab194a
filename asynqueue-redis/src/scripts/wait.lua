-- Notes for this many milliseconds that a caller waits for a task to end, unless it has.
-- Returns its state ('' none), envelope and result.
local envelope = redis.call('HGET', tasks, id)
if not envelope then return {'', '', false} end
if redis.call('ZSCORE', completed, id) then return {'completed', envelope, redis.call('HGET', results, id)} end
if redis.call('ZSCORE', archived, id) then return {'archived', envelope, false} end
redis.call('HSET', waiters, id, int(clock(not_after) + millis))
return {'waits', envelope, false}
