local function first_group(keys)
  return tonumber(redis.call('ZRANGE', keys.groups, 0, 0, 'WITHSCORES')[2])
end

-- Adds tasks to their groups (id, limits and group, …), and sends a signal if one is due before all others.
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
