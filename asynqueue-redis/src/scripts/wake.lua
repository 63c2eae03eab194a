-- Wakes others for pending tasks, instead of an instance that was woken: `leaving` is its tag if it leaves ('' if it
-- only has no room now).
local leaves = leaving ~= ''
clock(not_after)
-- An instance that is still waiting was not woken alone, so it has nothing to pass on.
if leaves and redis.call('ZREM', idle, leaving) == 1 then return end
local waiting = redis.call('LLEN', pending) + redis.call('ZCARD', urgent)
if waiting > 0 then wake(keys, leaves and waiting or 1, true, publish) end
