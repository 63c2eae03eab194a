-- Moves members of the group `from` into a separate group, each if it waits there and still is as it was read. `spec`
-- has the limits and the name of that group. `offset` is the number of members set apart before, and `new` the new
-- envelope ('' for no change).
-- Returns how many were set apart.
local called = clock(not_after)
local now = called + offset
local before = seen(lanes, lane, number)
if before then return before end
local limits, to = spec:match('^(%d+,%d+,%d+,)(.*)$')

local ids = {}
for at = ROWS, #ARGV, MEMBER_ROW do ids[#ids + 1] = ARGV[at + ID] end
local bodies = redis.call('HMGET', tasks, unpack(ids))
local moved, put, kept, members = {}, {}, {}, {}
for i, waits in ipairs(redis.call('HMGET', aggregating, unpack(ids))) do
  local at = ROWS + (i - 1) * MEMBER_ROW
  local id, as_seen, new = ARGV[at + ID], ARGV[at + SEEN], ARGV[at + NEW]
  local member = waits and waits:match('^%d+,%d+,%d+,(.*)$')
  if member and member:sub(1, #member - #id - 18) == from and bodies[i] == as_seen then
    local n = #moved + 1
    -- In the order of their arrival.
    local time = ('%016.0f'):format(now + n - 1)
    moved[n] = id
    if new ~= '' then put[#put + 1], put[#put + 2] = id, new end
    members[2 * n - 1], members[2 * n] = 0, to .. '\n' .. time .. '\n' .. id
    kept[2 * n - 1], kept[2 * n] = id, limits .. members[2 * n]
  end
end
if #moved == 0 then return 0 end
-- First, because this is what a Redis without memory refuses, so that nothing is half done.
if #put > 0 then redis.call('HSET', tasks, unpack(put)) end
leave(keys, moved)
redis.call('HSET', aggregating, unpack(kept))
redis.call('ZADD', grouped, unpack(members))
regroup(keys, to)
note(lanes, lane, number, called, int(#moved))
return #moved
