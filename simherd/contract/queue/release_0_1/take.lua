-- Put before the scripts that claim: the attempt leaves the queue and is leased to the caller.
-- KEYS 1 queue (zset)  2 specs (hash)  3 leases (zset)  4 bell (list)  5 staged (hash)
--      6 overtaken (hash)  7 machines (zset)  8 fair (hash)
-- ARGV 1 lease key prefix  2 claim key prefix  3 holder  4 token  5 lease ms  6 memory s
--      7 length of a priority's band
local function now_ms()
  local now = redis.call('TIME')
  return now[1] * 1000 + math.floor(now[2] / 1000)
end
local function take(attempt)
  local ms = now_ms()
  if left(KEYS[8], attempt) then
    local place = tonumber(redis.call('ZSCORE', KEYS[1], attempt)) % tonumber(ARGV[7])
    if place > tonumber(redis.call('HGET', KEYS[8], 'now') or '0') then
      redis.call('HSET', KEYS[8], 'now', string.format('%.0f', place))
    end
  end
  redis.call('ZREM', KEYS[1], attempt)
  redis.call('HDEL', KEYS[5], attempt)
  redis.call('HDEL', KEYS[6], attempt)
  redis.call('ZADD', KEYS[3], ms + tonumber(ARGV[5]), attempt)
  redis.call('ZADD', KEYS[7], ms, ARGV[3])
  redis.call('HSET', ARGV[1] .. attempt, 'holder', ARGV[3], 'token', ARGV[4])
  redis.call('PERSIST', ARGV[1] .. attempt)
  redis.call('SET', ARGV[2] .. ARGV[4], attempt, 'EX', ARGV[6])
end
