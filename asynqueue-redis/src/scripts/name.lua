-- Adds a name to a set if `add` is 'y', or removes it.
clock(not_after)
if add == 'y' then return redis.call('SADD', names, name) end
return redis.call('SREM', names, name)
