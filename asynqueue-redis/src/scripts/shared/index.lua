-- Leases are ordered by expiry, not by task. If many are looked up by task, `leases` maps each task to the token of its
-- lease. The index starts with a lookup, or with thousands of leases, and ends when there are few. An entry of an ended
-- lease does no harm: readers check that the lease exists.

-- Adds entries of leases: every nth element of the list is a lease.
local function put_in_index(leases, list, every)
  local entries = {}
  for i = every, #list, every do
    entries[#entries + 1], entries[#entries + 2] = list[i]:sub(17), list[i]:sub(1, 16)
  end
  -- A Redis without memory responds to a lookup too.
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

-- Notes leases (expiry, lease, expiry, lease, …).
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
