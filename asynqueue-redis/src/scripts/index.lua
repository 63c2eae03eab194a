-- Leases are kept by their end, not by their task. While there are many, `leases` says of each task which token it is leased
-- under; while there are few, a walk through all of them costs no more. An entry that is left of a lease that has ended does no
-- harm: who reads it looks whether there is such a lease.

-- Adds leases (end, lease, end, lease, …), and begins the index once there are many.
local function index(active, leases, taken, may_exist)
  local function put(list, first)
    local entries = {}
    for i = first, #list, first do
      entries[#entries + 1], entries[#entries + 2] = list[i]:sub(17), list[i]:sub(1, 16)
    end
    redis.call('HSET', leases, unpack(entries))
  end
  if may_exist and redis.call('EXISTS', leases) == 1 then return put(taken, 2) end
  local count = redis.call('ZCARD', active)
  if count <= 256 then return end
  for first = 0, count - 1, 1000 do put(redis.call('ZRANGE', active, first, first + 999), 1) end
end

-- Removes the leases of these tasks, and ends the index once there are few.
local function unindex(active, leases, ids)
  if redis.call('EXISTS', leases) == 0 then return end
  if redis.call('ZCARD', active) <= 128 then
    redis.call('UNLINK', leases)
  else
    redis.call('HDEL', leases, unpack(ids))
  end
end
