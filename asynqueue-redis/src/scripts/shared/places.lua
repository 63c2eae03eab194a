-- Returns whether a build from before `leases` has leased here. Its leases are not in the index, and its name is
-- elsewhere.
local function has_older_workers(meta)
  local fields = redis.call('HLEN', meta)
  for _, mark in ipairs(fields > 0 and redis.call('HMGET', meta, 'paused', 'stale', 'turn', 'front') or {}) do
    if mark then fields = fields - 1 end
  end
  for _, field in ipairs(fields > 0 and redis.call('HKEYS', meta) or {}) do
    if field:sub(1, 2) == 'w:' then return true end
  end
  return false
end

-- Of tasks that are pending without a priority or leased, finds the leased ones: calls `found` with the index in ids,
-- the lease and its expiry. They are found in the index of leases. If there is no index, or some leases may be missing
-- in it, all leases are read, and the index is started.
local function find_leases(keys, ids, sought, found)
  local left, is_indexed = {}, redis.call('EXISTS', keys.leases) == 1
  local function seek(i)
    left[ids[i]] = left[ids[i]] or {}
    table.insert(left[ids[i]], i)
  end
  if is_indexed then
    local names, members, of = {}, {}, {}
    for n, i in ipairs(sought) do names[n] = ids[i] end
    for n, token in ipairs(redis.call('HMGET', keys.leases, unpack(names))) do
      if token then
        members[#members + 1], of[#of + 1] = token .. names[n], sought[n]
      else
        seek(sought[n])
      end
    end
    for n, ends in ipairs(#members > 0 and redis.call('ZMSCORE', keys.active, unpack(members)) or {}) do
      if ends then found(of[n], members[n], ends) else seek(of[n]) end
    end
  else
    for _, i in ipairs(sought) do seek(i) end
  end
  if not next(left) or (is_indexed and not has_older_workers(keys.meta)) then return end
  local count = redis.call('ZCARD', keys.active)
  if not is_indexed and count > 256 then begin_index(keys.active, keys.leases) end
  for first = 0, count - 1, 1000 do
    local active = redis.call('ZRANGE', keys.active, first, first + 999, 'WITHSCORES')
    for j = 1, #active, 2 do
      for _, i in ipairs(left[active[j]:sub(17)] or {}) do found(i, active[j], active[j + 1]) end
    end
  end
end

-- Returns where tasks are: for each id its state ('' none), the time that belongs to the state, and its lease if it is
-- active. The caller passes for each id whether the task exists.
local function places(keys, ids, is_there)
  local states, times, leases, sought = {}, {}, {}, {}
  local function look(key, state)
    if redis.call('EXISTS', key) == 0 then return end
    for i, time in ipairs(redis.call('ZMSCORE', key, unpack(ids))) do
      if time and is_there[i] then states[i], times[i] = state, time end
    end
  end
  if redis.call('EXISTS', keys.urgent, keys.scheduled, keys.retry, keys.archived, keys.completed, keys.aggregating) > 0 then
    look(keys.urgent, 'pending')
    look(keys.scheduled, 'scheduled')
    look(keys.retry, 'retry')
    look(keys.archived, 'archived')
    look(keys.completed, 'completed')
    local kept = redis.call('HMGET', keys.aggregating, unpack(ids))
    for i = 1, #ids do
      if kept[i] and is_there[i] then states[i], times[i] = 'aggregating', '' end
    end
  end
  for i in ipairs(ids) do
    if not is_there[i] then
      states[i] = ''
    elseif not states[i] then
      -- Otherwise it is in the pending list. Only reading the complete list could confirm it.
      states[i], times[i] = 'pending', ''
      sought[#sought + 1] = i
    end
  end
  if #sought > 0 and redis.call('EXISTS', keys.active) == 1 then
    find_leases(keys, ids, sought, function(i, lease, ends)
      states[i], times[i], leases[i] = 'active', ends, lease
    end)
  end
  return states, times, leases
end
