-- Notes a change in lanes without an owner: each call checks two of them, and deletes lanes that are a day old. After a
-- day without a change, all are deleted.
local function note_for_a_day(lanes, lane, number, now, answer)
  note(lanes, lane, number, now, answer)
  local day = 24 * 3600 * 1000
  local some = redis.call('HRANDFIELD', lanes, 2, 'WITHVALUES')
  for i = 1, #some, 2 do
    if tonumber(some[i + 1]:match(':(%d+):') or 0) < now - day then redis.call('HDEL', lanes, some[i]) end
  end
  redis.call('PEXPIRE', lanes, day)
end
