-- Takes or keeps the care of a queue, unless another instance has it.
-- ARGV: clock, the instance, for how many milliseconds, an instance whose care ends since it is not alive ('' none).
-- Answers who has it and for how many milliseconds still; where that is the caller, also when the next task is due ('' never),
-- how many tasks are active, and how many there are.
local owner, active, tasks = KEYS[1], KEYS[2], KEYS[3]
local keys = {scheduled = KEYS[4], retry = KEYS[5]}
clock(ARGV[1])
local holder = redis.call('GET', owner)
if holder and holder ~= ARGV[2] and holder ~= ARGV[4] then return {holder, redis.call('PTTL', owner)} end
redis.call('SET', owner, ARGV[2], 'PX', ARGV[3])
local due = first_due(keys)
return {ARGV[2], tonumber(ARGV[3]), due and int(due) or '', redis.call('ZCARD', active), redis.call('HLEN', tasks)}
