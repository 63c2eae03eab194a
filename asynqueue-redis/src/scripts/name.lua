-- Adds a name to a set, or removes it. ARGV: clock, 'y' to add it, the name.
clock(not_after)
if add == 'y' then return redis.call('SADD', names, name) end
return redis.call('SREM', names, name)
