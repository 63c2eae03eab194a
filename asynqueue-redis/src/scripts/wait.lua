-- Notes that someone waits for a task to end, unless it has.
-- ARGV: clock, id, for how many milliseconds. Answers its state ('' none), envelope and result.
local keys = {tasks = KEYS[1], completed = KEYS[2], archived = KEYS[3]}
local results, waiters = KEYS[4], KEYS[5]
local id = ARGV[2]
local envelope = redis.call('HGET', keys.tasks, id)
if not envelope then return {'', '', false} end
if redis.call('ZSCORE', keys.completed, id) then return {'completed', envelope, redis.call('HGET', results, id)} end
if redis.call('ZSCORE', keys.archived, id) then return {'archived', envelope, false} end
redis.call('HSET', waiters, id, int(clock(ARGV[1]) + ARGV[3]))
return {'waits', envelope, false}
