-- Tasks that wait for their group: `aggregating` keeps of each its limits and member, `grouped` the members in the order of
-- group and time, `groups` when each group is due. A group is its event and name, a member its group, time and id.

-- The members of a group, as a range of `grouped`.
local function members_of(group) return '[' .. group .. '\n', '(' .. group .. '\11' end

local function member_id(group, member) return member:sub(#group + 19) end

-- Sets when a group is due, by the limits of its newest member; one without members is gone.
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

local function first_group(keys)
  return tonumber(redis.call('ZRANGE', keys.groups, 0, 0, 'WITHSCORES')[2])
end

-- Adds tasks to their groups (id, limits and group, …), and says so if one is due before all others.
local function join(keys, tasks, now, publish)
  if #tasks == 0 then return end
  local before, put, members, touched = first_group(keys), {}, {}, {}
  for i = 1, #tasks, 2 do
    local limits, group = tasks[i + 1]:match('^(%d+,%d+,%d+,)(.*)$')
    local member = group .. '\n' .. ('%016.0f'):format(now) .. '\n' .. tasks[i]
    put[i], put[i + 1] = tasks[i], limits .. member
    members[i], members[i + 1] = 0, member
    touched[group] = true
  end
  redis.call('HSET', keys.aggregating, unpack(put))
  redis.call('ZADD', keys.grouped, unpack(members))
  for group in pairs(touched) do regroup(keys, group) end
  local first = first_group(keys)
  if first and (not before or first < before) then redis.call(publish, keys.events, 'd' .. int(first)) end
end

-- Takes tasks out of their groups. Answers how many were in one.
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
