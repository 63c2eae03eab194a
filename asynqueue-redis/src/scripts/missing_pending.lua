-- Marks entries of the list of pending tasks as gone whose tasks are not there. ARGV: ids.
local tasks, pending, gone, meta, stats = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local found, searched = 0, 0
for i, envelope in ipairs(redis.call('HMGET', tasks, unpack(ARGV))) do
  -- Each takes a search of the list; the rest is for the next time.
  if not envelope and searched < 5 then
    searched = searched + 1
    local entries = #redis.call('LPOS', pending, ARGV[i], 'COUNT', 0)
    local unmarked = entries - (redis.call('HGET', gone, ARGV[i]) or 0)
    if unmarked > 0 then
      redis.call('HINCRBY', gone, ARGV[i], unmarked)
      redis.call('HINCRBY', meta, 'stale', unmarked)
      found = found + unmarked
    end
  end
end
if found > 0 then redis.call('HINCRBY', stats, 'repaired', found) end
return found
