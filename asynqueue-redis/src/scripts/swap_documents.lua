-- Changes documents in sets: all changes of a set are made, or none if a document is not as expected. The sets are
-- processed in order.
-- A document is stored as its version in 16 hexadecimal digits, its due time in milliseconds ('' never), and its
-- content, separated by spaces. A value without this start counts as absent.
-- The other keys are pairs, one for each space: the documents, and their due times. `number` is '' if nothing is
-- changed, and `counted` is the index of the space whose documents are counted ('' none). Each change has the number of
-- its set, the index of its space, the expected version ('' absent, '*' any), the document ('' removes it, '=' keeps
-- and returns it) and its due time.
-- Returns the count, then for each set 'y' or 'n' for whether it was made, and the documents that it keeps.
local now = clock(not_after)
local before = number ~= '' and seen(lanes, lane, number)
if before then return cmsgpack.unpack(before) end

-- The keys of the space of a change.
local function space_of(at)
  local place = SPACES + ARGV[at + SPACE]
  return KEYS[place], KEYS[place + 1]
end

-- Reads a document, if it is needed. Returns whether it is as expected, and the document if it is kept.
local function look(at)
  local expect, keeps = ARGV[at + EXPECT], ARGV[at + PUT] == '='
  if expect == '*' and not keeps then return true end
  local documents = space_of(at)
  local found = redis.call('HGET', documents, ARGV[at + NAME])
  local version = found and found:match('^(%x+) %d* ') or ''
  return expect == '*' or expect == version, keeps and found
end

local function remove(at)
  if ARGV[at + PUT] ~= '' then return end
  local documents, due = space_of(at)
  redis.call('HDEL', documents, ARGV[at + NAME])
  redis.call('ZREM', due, ARGV[at + NAME])
end

local function set(at)
  local document, due_at = ARGV[at + PUT], ARGV[at + DUE_AT]
  if document == '' or document == '=' then return end
  local documents, due = space_of(at)
  redis.call('HSET', documents, ARGV[at + NAME], document)
  if due_at == '' then
    redis.call('ZREM', due, ARGV[at + NAME])
  else
    redis.call('ZADD', due, due_at, ARGV[at + NAME])
  end
end

local answer, at = {0}, ROWS
while ARGV[at] do
  local first, is_done, kept = at, true, {}
  while ARGV[at + SET] == ARGV[first + SET] do
    local is_expected, document = look(at)
    is_done = is_done and is_expected
    if ARGV[at + PUT] == '=' then kept[#kept + 1] = document end
    at = at + CHANGE_ROW
  end
  if is_done then
    -- First what frees memory, so that a Redis without memory accepts the rest.
    for row = first, at - 1, CHANGE_ROW do remove(row) end
    for row = first, at - 1, CHANGE_ROW do set(row) end
  end
  answer[#answer + 1] = is_done and 'y' or 'n'
  for i = 1, #kept do answer[#answer + 1] = kept[i] end
end
if counted ~= '' then answer[1] = redis.call('HLEN', KEYS[SPACES + counted]) end
if number == '' then return answer end

note_for_a_day(lanes, lane, number, now, cmsgpack.pack(answer))
return answer
