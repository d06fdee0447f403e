-- Read a hash that machines write to: no more of it than there should be.
-- KEYS 1 hash
-- ARGV 1 entries at the most  2 bytes of a field at the most  3 bytes of a value at the most, 0: the
--      values are not wanted
-- Replies {entries, entries left out, rows}; rows are field and value, each; none where there are
--       more entries than wanted
local length = redis.call('HLEN', KEYS[1])
if length > tonumber(ARGV[1]) then
  return {length, 0, {}}
end
local rows, left = {}, 0
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  local most = tonumber(ARGV[3])
  if #field > tonumber(ARGV[2]) or (most > 0 and redis.call('HSTRLEN', KEYS[1], field) > most) then
    left = left + 1
  else
    rows[#rows + 1] = field
    rows[#rows + 1] = most > 0 and redis.call('HGET', KEYS[1], field) or ''
  end
end
return {length, left, rows}
