-- Extends leases. Returns for each: 0 lost, 1 extended, 2 extended and to be cancelled.
local ends = int(clock(not_after) + millis)
-- A call that removes nothing: after it, a Redis without memory does not refuse the rest of the script. A lease that
-- could not be extended would let its task run twice.
redis.call('ZREM', active, '')
local found = redis.call('ZMSCORE', active, unpack(ARGV, ROWS))
local answers, leases, ids = {}, {}, {}
for i = 1, #found do
  answers[i] = 0
  if found[i] then
    answers[i] = 1
    leases[#leases + 1], leases[#leases + 2] = ends, ARGV[ROWS + i - 1]
  end
  ids[i] = ARGV[ROWS + i - 1]:sub(17)
end
if #leases > 0 then redis.call('ZADD', active, unpack(leases)) end
if redis.call('EXISTS', cancels) == 1 then
  for i, reason in ipairs(redis.call('HMGET', cancels, unpack(ids))) do
    if reason and answers[i] == 1 then answers[i] = 2 end
  end
end
return answers
