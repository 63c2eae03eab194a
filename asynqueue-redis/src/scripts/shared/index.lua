-- Leases are kept by their end, not by their task. Where many are looked up by their task, `leases` says of each task which token it
-- is leased under. It begins when somebody looks, or when there are thousands, and ends when there are few. An entry that is left
-- of a lease that has ended does no harm: who reads it looks whether there is such a lease.

-- Adds entries of leases: every so many of a list are leases.
local function put_in_index(leases, list, every)
  local entries = {}
  for i = every, #list, every do
    entries[#entries + 1], entries[#entries + 2] = list[i]:sub(17), list[i]:sub(1, 16)
  end
  -- A look is answered by a Redis without memory too.
  return type(redis.pcall('HSET', leases, unpack(entries))) == 'number'
end

local function begin_index(active, leases)
  for first = 0, redis.call('ZCARD', active) - 1, 1000 do
    if not put_in_index(leases, redis.call('ZRANGE', active, first, first + 999), 1) then
      redis.call('UNLINK', leases)
      return
    end
  end
end

-- Notes leases (end, lease, end, lease, …).
local function index(active, leases, taken, may_exist)
  if may_exist and redis.call('EXISTS', leases) == 1 then
    if not put_in_index(leases, taken, 2) then redis.call('UNLINK', leases) end
  elseif redis.call('ZCARD', active) > 4096 then
    begin_index(active, leases)
  end
end

-- Removes the leases of these tasks.
local function unindex(active, leases, ids)
  if redis.call('EXISTS', leases) == 0 then return end
  if redis.call('ZCARD', active) <= 128 then
    redis.call('UNLINK', leases)
  else
    redis.call('HDEL', leases, unpack(ids))
  end
end
