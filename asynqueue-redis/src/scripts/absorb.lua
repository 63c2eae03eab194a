-- Adds the statistics of another store, once for each `id`. `last` is when its archive limits last deleted a task (''
-- never), and `max` its limit by count ('' unknown), which counts only if none is known here. Returns whether they were
-- added.
clock(not_after)
if redis.call('HSETNX', stats, 'absorbed:' .. id, 1) == 0 then return 0 end
local function add(key, field, count)
  if count ~= '0' then redis.call('HINCRBY', key, field, count) end
end
add(stats, 'succeeded', succeeded)
add(stats, 'failed', failed)
add(stats, 'lost', lost)
add(stats, 'trimmed_by_count', by_count)
add(stats, 'trimmed_by_age', by_age)
if last ~= '' and tonumber(last) > tonumber(redis.call('HGET', stats, 'trimmed_at') or 0) then
  redis.call('HSET', stats, 'trimmed_at', last)
end
if max ~= '' then redis.call('HSETNX', stats, 'archived_max', max) end
for at = ROWS, #ARGV, HOUR_ROW do add(hours, ARGV[at + FIELD], ARGV[at + COUNT]) end
return 1
