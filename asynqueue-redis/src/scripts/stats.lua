-- A queue's figures: now, paused, succeeded, failed, repaired, archived tasks deleted by count and by age, when ('' never), limit by
-- count ('' not known); how many are scheduled, pending, active, to be retried, completed,
-- archived, aggregating; of the task that is next when it became pending ('' when it was enqueued), its id and its envelope.
-- ARGV: clock.
local keys = {pending = KEYS[1], urgent = KEYS[2], gone = KEYS[3], tasks = KEYS[4], archived = KEYS[5],
  completed = KEYS[6], scheduled = KEYS[7], retry = KEYS[8]}
local active, since, meta, stats, aggregating = KEYS[9], KEYS[10], KEYS[11], KEYS[12], KEYS[13]
local marks = redis.call('HMGET', meta, 'paused', 'stale')
local sums = redis.call('HMGET', stats, 'succeeded', 'failed', 'repaired', 'trimmed_by_count', 'trimmed_by_age', 'trimmed_at', 'archived_max')
local length = redis.call('LLEN', keys.pending)
local first = redis.call('ZRANGE', keys.urgent, 0, 0)[1]
local position = length - 1
while not first and position >= 0 do
  first = redis.call('LINDEX', keys.pending, position)
  -- The left-overs before it are few: they go as soon as a worker gets to them.
  if marks[2] and position > length - 1000 and is_gone(keys, first, position) then first = nil end
  position = position - 1
end
return {
  int(clock(ARGV[1])), marks[1] or '', sums[1] or '0', sums[2] or '0', sums[3] or '0',
  sums[4] or '0', sums[5] or '0', sums[6] or '', sums[7] or '',
  redis.call('ZCARD', keys.scheduled), length - (marks[2] or 0) + redis.call('ZCARD', keys.urgent),
  redis.call('ZCARD', active), redis.call('ZCARD', keys.retry), redis.call('ZCARD', keys.completed),
  redis.call('ZCARD', keys.archived), redis.call('HLEN', aggregating),
  first and redis.call('HGET', since, first) or '', first or '', first and redis.call('HGET', keys.tasks, first) or '',
}
