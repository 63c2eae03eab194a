-- Takes or keeps the care of a queue for so many milliseconds, unless another instance has it. That of `dead` ends, since it
-- is not alive ('' none).
-- Answers who has it and for how many milliseconds still; where that is the caller, also when the next task is due ('' never),
-- how many tasks are active, and how many there are.
clock(not_after)
local holder = redis.call('GET', owner)
if holder and holder ~= instance and holder ~= dead then return {holder, redis.call('PTTL', owner)} end
redis.call('SET', owner, instance, 'PX', millis)
local due = first_due(keys)
return {instance, tonumber(millis), due and int(due) or '', redis.call('ZCARD', active), redis.call('HLEN', tasks)}
