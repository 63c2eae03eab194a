-- Stops or resumes leasing. ARGV: clock, lane, number, publish, 'y' to stop it.
local keys = {meta = KEYS[1], pending = KEYS[2], urgent = KEYS[3], events = KEYS[4], idle = KEYS[5]}
local lanes, now = KEYS[6], clock(ARGV[1])
if seen(lanes, ARGV[2], ARGV[3]) then return 0 end
note(lanes, ARGV[2], ARGV[3], now, '')
if ARGV[5] == 'y' then return redis.call('HSET', keys.meta, 'paused', '1') end
if redis.call('HDEL', keys.meta, 'paused') == 1 then
  local waiting = redis.call('LLEN', keys.pending) + redis.call('ZCARD', keys.urgent)
  if waiting > 0 then wake(keys, waiting, true, ARGV[4]) end
end
return 0
