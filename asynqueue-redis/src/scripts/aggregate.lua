-- Replaces members of a group with one task, if all of them wait in it. `how` and `time` say when the task is due, as
-- in enqueue.lua. `lock` is its lock ('' none), and `window` is 'w' if the lock can outlive it. `held` is the lock of a
-- member to release ('' none).
-- Returns 'y' if done, 'n' if a member does not wait, or 'id' or 'lock' and its holder if the task is refused.
local now = clock(not_after)
local before = seen(lanes, lane, number)
if before then return before end
local function answer(text)
  note(lanes, lane, number, now, text)
  return text
end

local ids, unlock = {}, {}
for at = ROWS, #ARGV, MEMBER_ROW do
  local member, held = ARGV[at + MEMBER], ARGV[at + HELD]
  ids[#ids + 1] = member
  if held ~= '' then unlock[#unlock + 1], unlock[#unlock + 2] = held, member end
end
for i, kept in ipairs(redis.call('HMGET', aggregating, unpack(ids))) do
  local member = kept and kept:match('^%d+,%d+,%d+,(.*)$')
  if not member or member:sub(1, #member - #ids[i] - 18) ~= group then return answer('n') end
end
if redis.call('HEXISTS', tasks, id) == 1 then return answer('id') end
if lock ~= '' then
  local held, is_over = holder(keys, lock, now)
  if held and not is_over then return answer('lock ' .. held) end
end

redis.call('HSET', tasks, id, envelope)
leave(keys, ids)
redis.call('HDEL', tasks, unpack(ids))
redis.call('HDEL', priorities, unpack(ids))
for i = 1, #unlock, 2 do let_go(keys, unlock[i], unlock[i + 1], now) end
if lock ~= '' then hold(keys, lock, id, int(now + ttl), window) end
if priority ~= '0' then redis.call('HSET', priorities, id, priority) end
local due = now
if how == '+' then due = now + time elseif how == '@' then due = tonumber(time) end
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
