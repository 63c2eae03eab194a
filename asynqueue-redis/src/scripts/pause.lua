-- Stops or resumes leasing. ARGV: clock, publish, 'y' to stop it.
local keys = {meta = KEYS[1], pending = KEYS[2], urgent = KEYS[3], events = KEYS[4], idle = KEYS[5]}
if ARGV[3] == 'y' then return redis.call('HSET', keys.meta, 'paused', '1') end
if redis.call('HDEL', keys.meta, 'paused') == 1 then
  local waiting = redis.call('LLEN', keys.pending) + redis.call('ZCARD', keys.urgent)
  if waiting > 0 then wake(keys, waiting, true, ARGV[2]) end
end
return 0
