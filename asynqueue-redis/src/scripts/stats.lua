-- Returns the statistics of a queue: time, paused, succeeded, failed, lost, repaired, archived tasks deleted by count
-- and by age, when ('' never), limit by count ('' unknown); the numbers of scheduled, pending, active, retry, completed,
-- archived and aggregating tasks; of the next task, when it became pending ('' when it was enqueued), its id and its
-- envelope.
local marks = redis.call('HMGET', meta, 'paused', 'stale')
local sums = redis.call('HMGET', stats, 'succeeded', 'failed', 'lost', 'repaired', 'trimmed_by_count', 'trimmed_by_age', 'trimmed_at', 'archived_max')
local length = redis.call('LLEN', pending)
local first = redis.call('ZRANGE', urgent, 0, 0)[1]
local position = length - 1
while not first and position >= 0 do
  first = redis.call('LINDEX', pending, position)
  -- Few left-over entries precede it, because workers remove them when they reach them.
  if marks[2] and position > length - 1000 and is_gone(keys, first, position) then first = nil end
  position = position - 1
end
return {
  int(clock(not_after)), marks[1] or '', sums[1] or '0', sums[2] or '0', sums[3] or '0',
  sums[4] or '0', sums[5] or '0', sums[6] or '0', sums[7] or '', sums[8] or '',
  redis.call('ZCARD', scheduled), length - (marks[2] or 0) + redis.call('ZCARD', urgent),
  redis.call('ZCARD', active), redis.call('ZCARD', retry), redis.call('ZCARD', completed),
  redis.call('ZCARD', archived), redis.call('HLEN', aggregating),
  first and redis.call('HGET', since, first) or '', first or '', first and redis.call('HGET', tasks, first) or '',
}
