-- Releases locks of those that hold them. ARGV: lock, id, lock, id, …
local names, over = {}, {}
for i = 1, #ARGV, 2 do names[#names + 1] = ARGV[i] end
for i, held in ipairs(redis.call('HMGET', KEYS[1], unpack(names))) do
  if held and held:match('^%d+w?:(.*)$') == ARGV[2 * i] then over[#over + 1] = names[i] end
end
if #over > 0 then
  redis.call('HDEL', KEYS[1], unpack(over))
  redis.call('ZREM', KEYS[2], unpack(over))
end
return #over
