-- Takes or renews the ownership of a queue for this many milliseconds, unless another instance owns it. An ownership of
-- `dead` ends, because that instance is not alive ('' none).
-- Returns the owner and its remaining milliseconds. If the owner is the caller, also returns when the next task is due
-- ('' never), the number of active tasks, and the number of all tasks.
clock(not_after)
local holder = redis.call('GET', owner)
if holder and holder ~= instance and holder ~= dead then return {holder, redis.call('PTTL', owner)} end
redis.call('SET', owner, instance, 'PX', millis)
local due = first_due(keys)
return {instance, tonumber(millis), due and int(due) or '', redis.call('ZCARD', active), redis.call('HLEN', tasks)}
