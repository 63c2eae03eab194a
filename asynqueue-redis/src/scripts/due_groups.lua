-- Returns the due groups of some events, up to `limit` groups or `bytes` bytes of envelopes.
-- Returns when the next one is due ('' never), then for each group its name, and the ids and envelopes of its members.
local now, most, room, read_bytes = clock(not_after), tonumber(limit), tonumber(bytes), 0
local wanted = {}
for i = ROWS, #ARGV do wanted[ARGV[i]] = true end

-- The oldest members, as many as become one task. Entries of missing tasks are removed.
local function read(group)
  local low, high = members_of(group)
  local last = redis.call('ZRANGE', grouped, high, low, 'BYLEX', 'REV', 'LIMIT', 0, 1)[1]
  local limits = last and redis.call('HGET', aggregating, member_id(group, last))
  local size = limits and limits:match('^%d+,%d+,(%d+),') or 1000
  local members, ids = redis.call('ZRANGE', grouped, low, high, 'BYLEX', 'LIMIT', 0, size), {}
  for i, member in ipairs(members) do ids[i] = member_id(group, member) end
  if #ids == 0 then return {}, {} end
  local kept, bodies, lost = {}, {}, {}
  local waits = redis.call('HMGET', aggregating, unpack(ids))
  for i, body in ipairs(redis.call('HMGET', tasks, unpack(ids))) do
    if body and waits[i] then
      kept[#kept + 1], bodies[#bodies + 1] = ids[i], body
      read_bytes = read_bytes + #body
    else
      lost[#lost + 1] = members[i]
    end
  end
  if #lost > 0 then
    redis.call('ZREM', grouped, unpack(lost))
    regroup(keys, group)
  end
  return kept, bodies
end

local answer, found, taken, offset = {''}, 0, 0, 0
while true do
  -- Skips groups of events that nobody here aggregates.
  local due = redis.call('ZRANGE', groups, '-inf', int(now), 'BYSCORE', 'LIMIT', offset, 100, 'WITHSCORES')
  for i = 1, #due, 2 do
    if wanted[due[i]:match('^(.-)\n')] then
      if found == most or taken >= 1000 or read_bytes >= room then
        answer[1] = due[i + 1]
        return answer
      end
      local ids, bodies = read(due[i])
      if #ids > 0 then
        found, taken = found + 1, taken + #ids
        answer[#answer + 1], answer[#answer + 2], answer[#answer + 3] = due[i], ids, bodies
      end
    end
  end
  if #due < 200 or offset >= 10000 then break end
  offset = offset + 100
end
local next_due = redis.call('ZRANGE', groups, '(' .. int(now), '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')
answer[1] = next_due[2] or ''
return answer
