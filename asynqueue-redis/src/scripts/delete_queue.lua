-- Deletes a queue: if it has no tasks, or by force. KEYS: all keys of the queue, then the channel of ends. ARGV: publish, 'y' by force.
local tasks, waiters, done = KEYS[1], KEYS[2], KEYS[#KEYS]
if ARGV[2] ~= 'y' and redis.call('HLEN', tasks) > 0 then return 0 end
for _, id in ipairs(redis.call('HKEYS', waiters)) do redis.call(ARGV[1], done, id .. '\n' .. 'g') end
redis.call('UNLINK', unpack(KEYS, 1, #KEYS - 1))
return 1
