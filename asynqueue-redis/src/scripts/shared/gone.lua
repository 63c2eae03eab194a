-- Returns whether an entry of the pending list, at this position from its left end, is left over from a task that was
-- deleted or cancelled while it waited.
local function is_gone(keys, id, position)
  local count = redis.call('HGET', keys.gone, id)
  if not count then return false end
  if redis.call('HEXISTS', keys.tasks, id) == 0 then return true end
  for _, key in ipairs({keys.archived, keys.completed, keys.scheduled, keys.retry, keys.urgent}) do
    if redis.call('ZSCORE', key, id) then return true end
  end
  -- Its id is in use again. Of the entries with one id, the leftmost is the task, unless all are left over.
  local entries = redis.call('LPOS', keys.pending, id, 'COUNT', 0)
  return entries[1] ~= position or #entries <= tonumber(count)
end
