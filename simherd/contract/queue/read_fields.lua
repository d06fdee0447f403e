-- Read fields of a hash, each only where it is as short as it should be.
-- KEYS 1 hash
-- ARGV 1 bytes of a value at the most, then the fields
-- Replies for each field its value | false (it is not there) | its length (it is too long)
local rows = {}
for i = 2, #ARGV do
  local length = redis.call('HSTRLEN', KEYS[1], ARGV[i])
  if length > tonumber(ARGV[1]) then
    rows[#rows + 1] = length
  else
    rows[#rows + 1] = redis.call('HGET', KEYS[1], ARGV[i])
  end
end
return rows
