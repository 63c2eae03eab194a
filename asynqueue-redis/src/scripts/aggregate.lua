-- Puts one task in place of members of a group, if all of them wait in it.
-- ARGV: clock, lane, number, publish, the group; of the task id, envelope, how its time is given ('' now, '+' from now, '@' at),
-- that time, priority, lock ('' none), its time to live, 'w' if it is for a window; then of each member its id and the lock to release.
-- Answers 'y' done, 'n' one does not wait, 'id' or 'lock' and who holds it where the task is refused.
local keys = {aggregating = KEYS[1], grouped = KEYS[2], groups = KEYS[3], pending = KEYS[4], urgent = KEYS[5],
  scheduled = KEYS[6], retry = KEYS[7], meta = KEYS[8], events = KEYS[9],
  idle = KEYS[17], owner = KEYS[18]}
local tasks, locks, priorities, lanes, waiters, done = KEYS[10], KEYS[11], KEYS[12], KEYS[13], KEYS[14], KEYS[15]
local lock_ends = KEYS[16]
local now, publish, group = clock(ARGV[1]), ARGV[4], ARGV[5]
local before = seen(lanes, ARGV[2], ARGV[3])
if before then return before end
local function answer(text)
  note(lanes, ARGV[2], ARGV[3], now, text)
  return text
end

local ids, unlock = {}, {}
for at = 14, #ARGV, 2 do
  ids[#ids + 1] = ARGV[at]
  if ARGV[at + 1] ~= '' then unlock[#unlock + 1], unlock[#unlock + 2] = ARGV[at + 1], ARGV[at] end
end
for i, kept in ipairs(redis.call('HMGET', keys.aggregating, unpack(ids))) do
  local member = kept and kept:match('^%d+,%d+,%d+,(.*)$')
  if not member or member:sub(1, #member - #ids[i] - 18) ~= group then return answer('n') end
end
local id, priority, key = ARGV[6], ARGV[10], ARGV[11]
if redis.call('HEXISTS', tasks, id) == 1 then return answer('id') end
local function holder(key)
  local ends, held = (redis.call('HGET', locks, key) or ''):match('^(%d+)w?:(.*)$')
  return held, ends and tonumber(ends) <= now
end
if key ~= '' then
  local held, is_over = holder(key)
  if held and not is_over then return answer('lock ' .. held) end
end

redis.call('HSET', tasks, id, ARGV[7])
leave(keys, ids)
redis.call('HDEL', tasks, unpack(ids))
redis.call('HDEL', priorities, unpack(ids))
for i = 1, #unlock, 2 do
  if holder(unlock[i]) == unlock[i + 1] then
    redis.call('HDEL', locks, unlock[i])
    redis.call('ZREM', lock_ends, unlock[i])
  end
end
if key ~= '' then
  local ends = int(now + ARGV[12])
  redis.call('HSET', locks, key, ends .. ARGV[13] .. ':' .. id)
  redis.call('ZADD', lock_ends, ends, key)
end
if priority ~= '0' then redis.call('HSET', priorities, id, priority) end
local due = now
if ARGV[8] == '+' then due = now + ARGV[9] elseif ARGV[8] == '@' then due = tonumber(ARGV[9]) end
if due > now then
  wait(keys, {int(due), id}, {}, publish)
elseif priority ~= '0' then
  push(keys, {}, {id, tonumber(priority)}, publish)
else
  push(keys, {id}, {}, publish)
end
if redis.call('EXISTS', waiters) == 1 then
  for i, waited in ipairs(redis.call('HMGET', waiters, unpack(ids))) do
    if waited then
      redis.call(publish, done, ids[i] .. '\n' .. 'g')
      redis.call('HDEL', waiters, ids[i])
    end
  end
end
return answer('y')
