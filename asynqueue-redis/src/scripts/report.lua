-- Keeps the progress of tasks that are still leased so. ARGV: lease, progress, lease, progress, …
local active, progress = KEYS[1], KEYS[2]
local leases, put = {}, {}
for i = 1, #ARGV, 2 do leases[#leases + 1] = ARGV[i] end
for i, ends in ipairs(redis.call('ZMSCORE', active, unpack(leases))) do
  if ends then put[#put + 1], put[#put + 2] = leases[i]:sub(17), ARGV[2 * i] end
end
if #put > 0 then redis.call('HSET', progress, unpack(put)) end
return #put / 2
