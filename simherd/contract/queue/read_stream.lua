-- Read a stream that machines write to, entry by entry, and only what is as long as it should be.
-- KEYS 1 stream
-- ARGV 1 the entry after which to read  2 entries at the most  3 bytes at the most, in all
--      4 field  5 bytes of its value at the most
-- Replies a row an entry: {id, value | false (it has no such field, others too, or is too long)}
local rows, bytes, after = {}, 0, ARGV[1]
while #rows < tonumber(ARGV[2]) and bytes < tonumber(ARGV[3]) do
  local entry = redis.call('XRANGE', KEYS[1], '(' .. after, '+', 'COUNT', 1)[1]
  if not entry then
    break
  end
  local fields = entry[2]
  local value = #fields == 2 and fields[1] == ARGV[4] and fields[2] or false
  if value and #value > tonumber(ARGV[5]) then
    value = false
  end
  rows[#rows + 1] = {entry[1], value}
  after, bytes = entry[1], bytes + (value and #value or 0)
end
return rows
