-- Moves a schedule entry on, unless someone has changed it. ARGV: name, the entry as seen, the entry to put in its place.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
