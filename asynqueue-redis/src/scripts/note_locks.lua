-- Notes the expiry of locks from processes of versions that do not maintain that set.
clock(not_after)
local found, noted = {}, {}
for at = ROWS, #ARGV do found[#found + 1] = ARGV[at] end
for i, held in ipairs(redis.call('HMGET', locks, unpack(found))) do
  local ends = held and held:match('^(%d+)')
  if ends then noted[#noted + 1], noted[#noted + 2] = ends, found[i] end
end
if #noted > 0 then redis.call('ZADD', lock_ends, unpack(noted)) end
return #noted / 2
