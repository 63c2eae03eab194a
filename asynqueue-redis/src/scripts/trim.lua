-- Deletes finished tasks and counts of hours that are kept no longer.
-- ARGV: clock, how many milliseconds archived tasks are kept, how many of them, how many to delete at most, how many hours.
local tasks, completed, archived, results, priorities, hours = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local now, keep, limit = clock(ARGV[1]), tonumber(ARGV[3]), tonumber(ARGV[4])
local deleted = 0
local function delete(key, ids)
  if #ids == 0 then return end
  redis.call('ZREM', key, unpack(ids))
  redis.call('HDEL', tasks, unpack(ids))
  redis.call('HDEL', results, unpack(ids))
  redis.call('HDEL', priorities, unpack(ids))
  deleted = deleted + #ids
end
local function until_now(key, last)
  return redis.call('ZRANGE', key, '-inf', int(last), 'BYSCORE', 'LIMIT', 0, limit - deleted)
end
local beyond = math.min(redis.call('ZCARD', archived) - keep, limit)
if beyond > 0 then delete(archived, redis.call('ZRANGE', archived, 0, beyond - 1)) end
if deleted < limit then delete(completed, until_now(completed, now)) end
if deleted < limit then delete(archived, until_now(archived, now - ARGV[2])) end
-- Now and then: of each hour there are two counts, and a day of them more is let pass.
if redis.call('HLEN', hours) > 2 * ARGV[5] + 48 then
  local oldest, old = math.floor(now / 3600000) - ARGV[5], {}
  for _, hour in ipairs(redis.call('HKEYS', hours)) do
    if tonumber(hour:sub(2)) < oldest and #old < 1000 then old[#old + 1] = hour end
  end
  if #old > 0 then redis.call('HDEL', hours, unpack(old)) end
end
return deleted
