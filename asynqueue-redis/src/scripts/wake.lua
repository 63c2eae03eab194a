-- Wakes others for what is pending, in place of an instance that was woken: `leaving` if it leaves ('' if it only has no room
-- for now).
local leaves = leaving ~= ''
clock(not_after)
-- One that still waits was woken for nothing that others would not hear of.
if leaves and redis.call('ZREM', idle, leaving) == 1 then return end
local waiting = redis.call('LLEN', pending) + redis.call('ZCARD', urgent)
if waiting > 0 then wake(keys, leaves and waiting or 1, true, publish) end
