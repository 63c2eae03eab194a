-- Keeps the progress of tasks that are still leased so. ARGV: clock, then lease, progress, lease, progress, …
local active, progress = KEYS[1], KEYS[2]
local leases, put = {}, {}
clock(ARGV[1])
for i = 2, #ARGV, 2 do leases[#leases + 1] = ARGV[i] end
for i, ends in ipairs(redis.call('ZMSCORE', active, unpack(leases))) do
  if ends then put[#put + 1], put[#put + 2] = leases[i]:sub(17), ARGV[2 * i + 1] end
end
if #put > 0 then redis.call('HSET', progress, unpack(put)) end
return #put / 2
