-- Marks entries of missing tasks in the pending list as deleted.
local found, searched = 0, 0
for i, envelope in ipairs(redis.call('HMGET', tasks, unpack(ARGV, ROWS))) do
  -- Each takes a search of the list. The rest follows with the next call.
  if not envelope and searched < 5 then
    searched = searched + 1
    local id = ARGV[ROWS + i - 1]
    local entries = #redis.call('LPOS', pending, id, 'COUNT', 0)
    local unmarked = entries - (redis.call('HGET', gone, id) or 0)
    if unmarked > 0 then
      redis.call('HINCRBY', gone, id, unmarked)
      redis.call('HINCRBY', meta, 'stale', unmarked)
      found = found + unmarked
    end
  end
end
if found > 0 then redis.call('HINCRBY', stats, 'repaired', found) end
return found
