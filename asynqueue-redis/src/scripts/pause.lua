-- Stops or resumes leasing. ARGV: publish, 'y' to stop it.
local meta, pending, urgent, events = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
if ARGV[2] == 'y' then return redis.call('HSET', meta, 'paused', '1') end
if redis.call('HDEL', meta, 'paused') == 1 and redis.call('LLEN', pending) + redis.call('ZCARD', urgent) > 0 then
  redis.call(ARGV[1], events, 'p')
end
return 0
