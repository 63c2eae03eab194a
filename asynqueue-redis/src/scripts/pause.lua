-- Pauses leasing if `stop` is 'y', or resumes it.
local now = clock(not_after)
if seen(lanes, lane, number) then return 0 end
note(lanes, lane, number, now, '')
if stop == 'y' then return redis.call('HSET', meta, 'paused', '1') end
if redis.call('HDEL', meta, 'paused') == 1 then
  local waiting = redis.call('LLEN', pending) + redis.call('ZCARD', urgent)
  if waiting > 0 then wake(keys, waiting, true, publish) end
end
return 0
