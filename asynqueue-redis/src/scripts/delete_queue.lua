-- Deletes a queue: if it has no tasks, or by force. KEYS: all keys of the queue, then the channel of ends, and what notes the
-- deletion for as long as it may be sent again. ARGV: clock, lane, number, publish, 'y' by force, for how many milliseconds to note it.
local tasks, waiters, done, deleted = KEYS[1], KEYS[2], KEYS[#KEYS - 1], KEYS[#KEYS]
local this = ARGV[2] .. ':' .. ARGV[3]
clock(ARGV[1])
if redis.call('GET', deleted) == this then return 1 end
if ARGV[5] ~= 'y' and redis.call('HLEN', tasks) > 0 then return 0 end
for _, id in ipairs(redis.call('HKEYS', waiters)) do redis.call(ARGV[4], done, id .. '\n' .. 'g') end
if redis.call('UNLINK', unpack(KEYS, 1, #KEYS - 2)) > 0 then redis.call('SET', deleted, this, 'PX', ARGV[6]) end
return 1
