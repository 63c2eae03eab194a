-- Stores the progress of tasks that still have this lease.
local leases, put = {}, {}
clock(not_after)
for at = ROWS, #ARGV, REPORT_ROW do leases[#leases + 1] = ARGV[at + LEASE] end
for i, ends in ipairs(redis.call('ZMSCORE', active, unpack(leases))) do
  if ends then put[#put + 1], put[#put + 2] = leases[i]:sub(17), ARGV[ROWS + (i - 1) * REPORT_ROW + VALUE] end
end
if #put > 0 then redis.call('HSET', progress, unpack(put)) end
return #put / 2
