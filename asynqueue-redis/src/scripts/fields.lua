-- Returns about `count` fields of a hash without their values.
-- Returns the next cursor, the bytes of the values, and the fields.
local found = redis.call('HSCAN', hash, cursor, 'COUNT', count)
local names, bytes = {}, 0
for i = 1, #found[2], 2 do
  names[#names + 1] = found[2][i]
  bytes = bytes + #found[2][i + 1]
end
return {found[1], bytes, names}
