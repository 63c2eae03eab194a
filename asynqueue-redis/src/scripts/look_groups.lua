-- Returns the waiting groups, ordered by due time. Returns for each its name, when it is due, how many tasks wait in
-- it, and since when the oldest does.
local answer = {}
local due = redis.call('ZRANGE', groups, 0, tonumber(limit) - 1, 'WITHSCORES')
for i = 1, #due, 2 do
  local group = due[i]
  local low, high = members_of(group)
  local first = redis.call('ZRANGE', grouped, low, high, 'BYLEX', 'LIMIT', 0, 1)[1]
  if first then
    local n = #answer
    answer[n + 1], answer[n + 2] = group, due[i + 1]
    answer[n + 3] = redis.call('ZLEXCOUNT', grouped, low, high)
    answer[n + 4] = first:sub(#group + 2, #group + 17)
  end
end
return answer
