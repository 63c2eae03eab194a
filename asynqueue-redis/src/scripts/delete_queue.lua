-- Deletes a queue: if it has no tasks, or by force. KEYS: all keys of the queue, then the channel of ends, and what notes the
-- deletion for as long as it may be sent again. ARGV: clock, lane, number, publish, 'y' by force, for how many milliseconds to note it.
local this = lane .. ':' .. number
clock(not_after)
if redis.call('GET', deleted) == this then return 1 end
if force ~= 'y' and redis.call('HLEN', tasks) > 0 then return 0 end
for _, id in ipairs(redis.call('HKEYS', waiters)) do redis.call(publish, done, id .. '\n' .. 'g') end
if redis.call('UNLINK', tasks, waiters, unpack(KEYS, OTHERS)) > 0 then redis.call('SET', deleted, this, 'PX', millis) end
return 1
