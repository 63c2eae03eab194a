-- Deletes a queue if it has no tasks, or if `force` is 'y'. `others` are all of its keys but the first two. The
-- deletion is noted in `deleted` for as many milliseconds as the call may be sent again.
local this = lane .. ':' .. number
clock(not_after)
if redis.call('GET', deleted) == this then return 1 end
if force ~= 'y' and redis.call('HLEN', tasks) > 0 then return 0 end
for _, id in ipairs(redis.call('HKEYS', waiters)) do redis.call(publish, done, id .. '\n' .. 'g') end
if redis.call('UNLINK', tasks, waiters, unpack(KEYS, OTHERS)) > 0 then redis.call('SET', deleted, this, 'PX', millis) end
return 1
