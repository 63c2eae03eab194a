-- Changes schedule entries, each if it still is as it was seen ('' none). `events` are the keys of the outcomes of their
-- ticks. `new` is the entry to put in its place ('' removes it), and `due_at` when that is due ('' never). A removal is
-- remembered for `removals_kept` milliseconds. `new_mark` is a mark that was never before.
-- Answers of each whether it was done, 'y' or 'n'.
local now, answers, is_other = clock(not_after), {}, false
local before = seen(lanes, lane, number)
if before then return before end
for at = ROWS, #ARGV, ENTRY_ROW do
  local i, name, as_seen, new = #answers + 1, ARGV[at + NAME], ARGV[at + SEEN], ARGV[at + NEW]
  answers[i] = (redis.call('HGET', entries, name) or '') == as_seen and 'y' or 'n'
  if answers[i] == 'y' then
    if new ~= '' then
      redis.call('HSET', entries, name, new)
      if as_seen == '' then redis.call('ZREM', removed, name) end
    else
      redis.call('HDEL', entries, name)
      redis.call('UNLINK', KEYS[EVENTS + i - 1])
      redis.call('ZADD', removed, int(now), name)
      redis.call('PEXPIRE', removed, removals_kept)
    end
    is_other = is_other or as_seen == '' or new == ''
    if ARGV[at + DUE_AT] ~= '' then
      redis.call('ZADD', due, ARGV[at + DUE_AT], name)
    else
      redis.call('ZREM', due, name)
    end
  end
end
if is_other then redis.call('SET', mark, new_mark) end
local answer = table.concat(answers)
note_beside(lanes, lane, number, now, answer)
return answer
