-- Returns when the first of the scheduled tasks is due.
local function first_due(keys)
  local first
  for _, key in ipairs({keys.scheduled, keys.retry}) do
    local due = tonumber(redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2])
    if due and not (first and first <= due) then first = due end
  end
  return first
end
