-- Removes expired locks, at most `limit`. Returns how many it has read.
local now = clock(not_after)
local over = redis.call('ZRANGE', lock_ends, '-inf', int(now), 'BYSCORE', 'LIMIT', 0, limit)
if #over == 0 then return 0 end
local ended, later = {}, {}
for i, held in ipairs(redis.call('HMGET', locks, unpack(over))) do
  local ends = held and held:match('^(%d+)')
  if not ends or tonumber(ends) <= now then
    ended[#ended + 1] = over[i]
  else
    -- A process of a version that does not maintain this set has taken the lock again.
    later[#later + 1], later[#later + 2] = ends, over[i]
  end
end
if #ended > 0 then
  redis.call('HDEL', locks, unpack(ended))
  redis.call('ZREM', lock_ends, unpack(ended))
end
if #later > 0 then redis.call('ZADD', lock_ends, unpack(later)) end
return #over
