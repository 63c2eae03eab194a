-- What is leased under a token, for a worker that was not told. Its leases begin anew.
-- ARGV: clock, token, how many milliseconds. Answers now, '', ids and envelopes, as leasing does.
local active, tasks = KEYS[1], KEYS[2]
local now, ends = clock(ARGV[1]), 0
local ids, leases = {}, {}
for first = 0, redis.call('ZCARD', active) - 1, 1000 do
  for _, member in ipairs(redis.call('ZRANGE', active, first, first + 999)) do
    if member:sub(1, 16) == ARGV[2] then
      ids[#ids + 1] = member:sub(17)
      leases[#leases + 1], leases[#leases + 2] = int(now + ARGV[3]), member
    end
  end
end
if #ids == 0 then return {int(now), ''} end
redis.call('ZADD', active, unpack(leases))
local envelopes, kept, found = redis.call('HMGET', tasks, unpack(ids)), {}, {}
for i, id in ipairs(ids) do
  if envelopes[i] then kept[#kept + 1], found[#found + 1] = id, envelopes[i] end
end
return {int(now), '', kept, found}
