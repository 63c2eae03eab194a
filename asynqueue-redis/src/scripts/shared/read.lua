-- Reads envelopes, in steps that grow while they fit: up to this many bytes, and at least one.
-- Returns them (false for missing tasks), and how many it has read.
local function read(tasks, ids, room)
  local bodies, count, bytes, step = {}, 0, 0, 8
  while count < #ids do
    local last = math.min(count + step, #ids)
    for _, body in ipairs(redis.call('HMGET', tasks, unpack(ids, count + 1, last))) do
      local size = body and #body or 0
      if bytes + size > room and count > 0 then return bodies, count end
      count, bytes = count + 1, bytes + size
      bodies[count] = body
    end
    step = math.max(1, math.min(500, math.floor((room - bytes) * count / math.max(bytes, 1))))
  end
  return bodies, count
end
