-- Remove the keys that match a pattern, some at a time. Their names may be any bytes.
-- ARGV 1 cursor, '0' at first  2 pattern  3 keys that are looked at
-- Replies {the next cursor, '0' when all were looked at, keys removed}
local found = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])
local removed = 0
for _, key in ipairs(found[2]) do
  removed = removed + redis.call('UNLINK', key)
end
return {found[1], removed}
