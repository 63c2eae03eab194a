-- Stops or resumes leasing. ARGV: clock, lane, number, publish, 'y' to stop it.
local meta, pending, urgent, events, lanes = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local now = clock(ARGV[1])
if seen(lanes, ARGV[2], ARGV[3]) then return 0 end
note(lanes, ARGV[2], ARGV[3], now, '')
if ARGV[5] == 'y' then return redis.call('HSET', meta, 'paused', '1') end
if redis.call('HDEL', meta, 'paused') == 1 and redis.call('LLEN', pending) + redis.call('ZCARD', urgent) > 0 then
  redis.call(ARGV[4], events, 'p')
end
return 0
