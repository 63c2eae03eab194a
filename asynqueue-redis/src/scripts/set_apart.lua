-- Takes members out of their group, each if it waits there and still is as it was seen, and makes them a group of their own.
-- ARGV: clock, lane, number, the group, limits and name of the one they become, how many were set apart before; then of each
-- member its id, envelope as seen and new envelope ('' stays). Answers how many were set apart.
local keys = {aggregating = KEYS[1], grouped = KEYS[2], groups = KEYS[3]}
local tasks, lanes = KEYS[4], KEYS[5]
local called, from = clock(ARGV[1]), ARGV[4]
local now = called + ARGV[6]
local before = seen(lanes, ARGV[2], ARGV[3])
if before then return before end
local limits, to = ARGV[5]:match('^(%d+,%d+,%d+,)(.*)$')

local ids = {}
for at = 7, #ARGV, 3 do ids[#ids + 1] = ARGV[at] end
local bodies = redis.call('HMGET', tasks, unpack(ids))
local moved, put, kept, members = {}, {}, {}, {}
for i, waits in ipairs(redis.call('HMGET', keys.aggregating, unpack(ids))) do
  local id, seen, new = unpack(ARGV, 4 + 3 * i, 6 + 3 * i)
  local member = waits and waits:match('^%d+,%d+,%d+,(.*)$')
  if member and member:sub(1, #member - #id - 18) == from and bodies[i] == seen then
    local n = #moved + 1
    -- In the order that they came.
    local time = ('%016.0f'):format(now + n - 1)
    moved[n] = id
    if new ~= '' then put[#put + 1], put[#put + 2] = id, new end
    members[2 * n - 1], members[2 * n] = 0, to .. '\n' .. time .. '\n' .. id
    kept[2 * n - 1], kept[2 * n] = id, limits .. members[2 * n]
  end
end
if #moved == 0 then return 0 end
-- First, since it is what a Redis without memory refuses: so nothing is half done.
if #put > 0 then redis.call('HSET', tasks, unpack(put)) end
leave(keys, moved)
redis.call('HSET', keys.aggregating, unpack(kept))
redis.call('ZADD', keys.grouped, unpack(members))
regroup(keys, to)
note(lanes, ARGV[2], ARGV[3], called, int(#moved))
return #moved
