-- Adds figures over time.
-- The other keys are hashes of the points of a series and a time. A field is the length of the group, ':', the group and
-- the key; its value is slots and numbers in turn, ';' and the note. The field 'n' with a group has the number of its
-- keys, besides the rest.
-- Each point has the index of its hash, its group, key, figures and note, the most keys of a group, and how long the
-- hash is kept in milliseconds.
local now = clock(not_after)
if seen(lanes, lane, number) then return end

local function add(sums, figures)
  for slot, n in figures:gmatch('(%d+) (%d+)') do
    sums[slot] = math.min((sums[slot] or 0) + tonumber(n), 2 ^ 53)
  end
end

for at = ROWS, #ARGV, POINT_ROW do
  local hash, group, key, note = KEYS[SPANS + ARGV[at + SPAN]], ARGV[at + GROUP], ARGV[at + KEY], ARGV[at + NOTE]
  local start = #group .. ':' .. group
  local field = start .. key
  local before = redis.call('HGET', hash, field)
  if not before and key ~= '' then
    if redis.call('HINCRBY', hash, 'n' .. group, 1) > tonumber(ARGV[at + MAX_KEYS]) then
      redis.call('HINCRBY', hash, 'n' .. group, -1)
      field, note = start, ''
      before = redis.call('HGET', hash, field)
    end
  end
  local sums = {}
  if before then
    local figures, first_note = before:match('^([^;]*);(.*)$')
    add(sums, figures)
    note = first_note
  end
  add(sums, ARGV[at + FIGURES])
  local figures = {}
  for slot, n in pairs(sums) do figures[#figures + 1] = slot .. ' ' .. int(n) end
  redis.call('HSET', hash, field, table.concat(figures, ' ') .. ';' .. note)
  if redis.call('PTTL', hash) < 0 then redis.call('PEXPIRE', hash, ARGV[at + KEPT]) end
end
note_for_a_day(lanes, lane, number, now, '')
