-- Put before the scripts that claim: the attempt leaves the queue and is leased to the caller.
-- KEYS 1 queue (zset)  2 specs (hash)  3 leases (zset)  4 bell (list)  5 staged (hash)
--      6 overtaken (hash)  7 machines (zset)  8 fair (hash)
--      9 claims (hash: executor → 'token attempt' of its last claim: one entry a machine)
-- ARGV 1 lease key prefix  2 holder  3 token  4 lease ms  5 length of a priority's band
local function now_ms()
  local now = redis.call('TIME')
  return now[1] * 1000 + math.floor(now[2] / 1000)
end
-- The attempt that an earlier call with the same token was given.
local function remembered()
  local claim = redis.call('HGET', KEYS[9], ARGV[2])
  local token, attempt = string.match(claim or '', '^(%S+) (.+)$')
  return token == ARGV[3] and attempt or nil
end
local function take(attempt)
  local ms = now_ms()
  if left(KEYS[8], attempt) then
    local place = tonumber(redis.call('ZSCORE', KEYS[1], attempt)) % tonumber(ARGV[5])
    if place > tonumber(redis.call('HGET', KEYS[8], 'now') or '0') then
      redis.call('HSET', KEYS[8], 'now', string.format('%.0f', place))
    end
  end
  redis.call('ZREM', KEYS[1], attempt)
  redis.call('HDEL', KEYS[5], attempt)
  redis.call('HDEL', KEYS[6], attempt)
  redis.call('ZADD', KEYS[3], ms + tonumber(ARGV[4]), attempt)
  redis.call('ZADD', KEYS[7], ms, ARGV[2])
  redis.call('HSET', ARGV[1] .. attempt, 'holder', ARGV[2], 'token', ARGV[3])
  redis.call('PERSIST', ARGV[1] .. attempt)
  redis.call('HSET', KEYS[9], ARGV[2], ARGV[3] .. ' ' .. attempt)
end
