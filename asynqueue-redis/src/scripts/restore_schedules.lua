-- Puts schedule entries back that are missing, unless they were removed in the last `removals_kept` milliseconds. An entry
-- that is '' is only asked for. `new_mark` is a mark that was never before, `due_at` is when the entry is due ('' never).
-- Answers the mark, then of each entry 'h' it is there, 'r' it was removed, 'm' it is missing, 'y' it was put back.
local now, answers, is_other = clock(not_after), {}, false
redis.call('ZREMRANGEBYSCORE', removed, '-inf', int(now - removals_kept))
local kept = redis.call('GET', mark)
for at = ROWS, #ARGV, ENTRY_ROW do
  local name, entry, due_at, answer = ARGV[at + NAME], ARGV[at + ENTRY], ARGV[at + DUE_AT], 'y'
  if redis.call('HEXISTS', entries, name) == 1 then
    answer = 'h'
  elseif redis.call('ZSCORE', removed, name) then
    answer = 'r'
  elseif entry == '' then
    answer = 'm'
  else
    redis.call('HSET', entries, name, entry)
    if due_at ~= '' then redis.call('ZADD', due, due_at, name) end
    is_other = true
  end
  answers[#answers + 1] = answer
end
if is_other or not kept then
  kept = new_mark
  redis.call('SET', mark, kept)
end
return {kept, answers}
