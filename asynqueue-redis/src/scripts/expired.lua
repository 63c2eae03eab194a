-- Returns the leases that have expired by a time, up to this many bytes of envelopes. Leases of missing tasks are
-- removed and counted. Returns the time, the leases and the envelopes.
local now = clock(not_after)
local last = math.min(now, tonumber(by))
local leases = redis.call('ZRANGE', active, '-inf', int(last), 'BYSCORE', 'LIMIT', 0, limit)
if #leases == 0 then return {int(now)} end
local ids, kept, envelopes, lost = {}, {}, {}, {}
for i, lease in ipairs(leases) do ids[i] = lease:sub(17) end
local bodies, count = read(tasks, ids, tonumber(bytes))
for i = 1, count do
  if bodies[i] then
    kept[#kept + 1], envelopes[#envelopes + 1] = leases[i], bodies[i]
  else
    lost[#lost + 1] = leases[i]
  end
end
if #lost > 0 then
  redis.call('ZREM', active, unpack(lost))
  redis.call('HINCRBY', stats, 'repaired', #lost)
end
return {int(now), kept, envelopes}
