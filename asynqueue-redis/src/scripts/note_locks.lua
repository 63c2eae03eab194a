-- Notes the ends of locks, as processes of versions that do not keep that set have left them. ARGV: clock, then of each lock its key
-- and value as seen.
local locks, lock_ends = KEYS[1], KEYS[2]
clock(ARGV[1])
local names, noted = {}, {}
for at = 2, #ARGV, 2 do names[#names + 1] = ARGV[at] end
for i, held in ipairs(redis.call('HMGET', locks, unpack(names))) do
  local ends = held and held:match('^(%d+)')
  if ends then noted[#noted + 1], noted[#noted + 2] = ends, names[i] end
end
if #noted > 0 then redis.call('ZADD', lock_ends, unpack(noted)) end
return #noted / 2
