-- Sets when a group is due, by the limits of its newest member. A group without members is removed.
local function regroup(keys, group)
  local low, high = members_of(group)
  local count = redis.call('ZLEXCOUNT', keys.grouped, low, high)
  local last = redis.call('ZRANGE', keys.grouped, high, low, 'BYLEX', 'REV', 'LIMIT', 0, 1)[1]
  local limits = last and redis.call('HGET', keys.aggregating, member_id(group, last))
  if not limits then
    redis.call('ZREM', keys.groups, group)
    return
  end
  local first = redis.call('ZRANGE', keys.grouped, low, high, 'BYLEX', 'LIMIT', 0, 1)[1]
  local function since(member) return tonumber(member:sub(#group + 2, #group + 17)) end
  local grace, delay, size = limits:match('^(%d+),(%d+),(%d+),')
  local due = since(last)
  if count < tonumber(size) then due = math.min(due + grace, since(first) + delay) end
  redis.call('ZADD', keys.groups, int(due), group)
end

-- Removes tasks from their groups. Returns how many were in one.
local function leave(keys, ids)
  local members, gone, touched = {}, {}, {}
  for i, kept in ipairs(redis.call('HMGET', keys.aggregating, unpack(ids))) do
    if kept then
      local member = kept:match('^%d+,%d+,%d+,(.*)$')
      members[#members + 1], gone[#gone + 1] = member, ids[i]
      touched[member:sub(1, #member - #ids[i] - 18)] = true
    end
  end
  if #gone == 0 then return 0 end
  redis.call('HDEL', keys.aggregating, unpack(gone))
  redis.call('ZREM', keys.grouped, unpack(members))
  for group in pairs(touched) do regroup(keys, group) end
  return #gone
end
