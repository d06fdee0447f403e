-- Measure what each machine group has in Redis, some keys at a time.
-- ARGV 1 cursor, '0' at first  2 pattern of the keys  3 keys that are looked at  4 elements of a key
--      whose size is taken for that of the others, '0': all
-- Replies {the next cursor, '0' when all were looked at, rows}; a row is {hash tag, keys, bytes}
local found = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])
local keys, bytes, rows = {}, {}, {}
for _, key in ipairs(found[2]) do
  local tag = string.match(key, '{([^}]*)}')
  if tag then
    keys[tag] = (keys[tag] or 0) + 1
    bytes[tag] = (bytes[tag] or 0) + (redis.call('MEMORY', 'USAGE', key, 'SAMPLES', ARGV[4]) or 0)
  end
end
for tag, number in pairs(keys) do
  rows[#rows + 1] = {tag, number, bytes[tag]}
end
return {found[1], rows}
