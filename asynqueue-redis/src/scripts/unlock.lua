-- Releases locks of those that hold them. ARGV: clock, then lock, id, lock, id, …
local names, over = {}, {}
clock(ARGV[1])
for i = 2, #ARGV, 2 do names[#names + 1] = ARGV[i] end
for i, held in ipairs(redis.call('HMGET', KEYS[1], unpack(names))) do
  if held and held:match('^%d+w?:(.*)$') == ARGV[2 * i + 1] then over[#over + 1] = names[i] end
end
if #over > 0 then
  redis.call('HDEL', KEYS[1], unpack(over))
  redis.call('ZREM', KEYS[2], unpack(over))
end
return #over
