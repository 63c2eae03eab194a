-- Notes a change in lanes that nobody looks after: two of them are looked at each time, and forgotten when they are a day old, and
-- all are once there was no change for a day.
local function note_beside(lanes, lane, number, now, answer)
  note(lanes, lane, number, now, answer)
  local day = 24 * 3600 * 1000
  local some = redis.call('HRANDFIELD', lanes, 2, 'WITHVALUES')
  for i = 1, #some, 2 do
    if tonumber(some[i + 1]:match(':(%d+):') or 0) < now - day then redis.call('HDEL', lanes, some[i]) end
  end
  redis.call('PEXPIRE', lanes, day)
end
