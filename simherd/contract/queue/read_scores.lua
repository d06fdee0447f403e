-- Read a sorted set that machines write to: no more of it than there should be.
-- KEYS 1 zset
-- ARGV 1 the first rank  2 entries at the most  3 bytes of a member at the most
--      4 prefix of hashes, one a member, whose field `holder` is wanted, or ''
-- Replies {entries in all, entries left out, rows}; rows are member, score and holder, each
local rows, left = {}, 0
local first, most = tonumber(ARGV[1]), tonumber(ARGV[3])
local found = redis.call('ZRANGE', KEYS[1], first, first + tonumber(ARGV[2]) - 1, 'WITHSCORES')
for i = 1, #found, 2 do
  local holder = ''
  if ARGV[4] ~= '' and #found[i] <= most then
    -- A key of another type is nobody's lease.
    local length = redis.pcall('HSTRLEN', ARGV[4] .. found[i], 'holder')
    if type(length) == 'number' and length <= most then
      holder = redis.call('HGET', ARGV[4] .. found[i], 'holder') or ''
    end
  end
  if #found[i] > most then
    left = left + 1
  else
    rows[#rows + 1] = found[i]
    rows[#rows + 1] = found[i + 1]
    rows[#rows + 1] = holder
  end
end
return {redis.call('ZCARD', KEYS[1]), left, rows}
