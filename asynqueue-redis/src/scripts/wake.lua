-- Wakes others for what is pending, in place of an instance that was woken.
-- ARGV: clock, publish, the instance if it leaves ('' if it only has no room for now).
local keys = {pending = KEYS[1], urgent = KEYS[2], meta = KEYS[3], events = KEYS[4], idle = KEYS[5]}
local leaves = ARGV[3] ~= ''
clock(ARGV[1])
-- One that still waits was woken for nothing that others would not hear of.
if leaves and redis.call('ZREM', keys.idle, ARGV[3]) == 1 then return end
local waiting = redis.call('LLEN', keys.pending) + redis.call('ZCARD', keys.urgent)
if waiting > 0 then wake(keys, leaves and waiting or 1, true, ARGV[2]) end
