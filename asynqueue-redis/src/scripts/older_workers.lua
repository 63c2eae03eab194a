-- Removes workers of builds from before `leases` that have no leases. Once there are none, the index has all leases.
local fields, leasing = {}, {}
for _, field in ipairs(redis.call('HKEYS', meta)) do
  if field:sub(1, 2) == 'w:' then fields[#fields + 1] = field end
end
if #fields == 0 then return 0 end
for first = 0, redis.call('ZCARD', active) - 1, 1000 do
  for _, lease in ipairs(redis.call('ZRANGE', active, first, first + 999)) do leasing['w:' .. lease:sub(1, 8)] = true end
end
local count = 0
for _, field in ipairs(fields) do
  if not leasing[field] then count = count + redis.call('HDEL', meta, field) end
end
return count
