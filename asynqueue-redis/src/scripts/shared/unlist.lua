-- Removes a task that is neither active nor missing from the list of its state.
local function unlist(keys, id, state)
  if state == 'pending' then
    if redis.call('ZREM', keys.urgent, id) == 0 then
      -- Searching the list would take time in proportion to its length. The entry is marked, and skipped in its turn.
      redis.call('HINCRBY', keys.gone, id, 1)
      if redis.call('HINCRBY', keys.meta, 'stale', 1) >= redis.call('LLEN', keys.pending) then
        redis.call('UNLINK', keys.pending, keys.gone)
        redis.call('HDEL', keys.meta, 'stale')
      end
    end
    redis.call('HDEL', keys.since, id)
  elseif state == 'aggregating' then
    leave(keys, {id})
  else
    redis.call('ZREM', keys[state], id)
  end
end
