-- Take the first waiting attempt and lease it to the caller; or the one whose inputs the caller
-- has fetched ahead, as long as the first one has not been overtaken too often by that.
-- A repeated call with the same token gets the same answer, so a lost reply costs nothing.
-- A claim is a sign of life, as a heartbeat is: who was silent for long begins anew with it.
-- KEYS 1 queue (zset)  2 specs (hash)  3 leases (zset)  4 bell (list)  5 staged (hash)
--      6 overtaken (hash)  7 machines (zset)  8 fair (hash)
-- ARGV 1 lease key prefix  2 claim key prefix  3 holder  4 token  5 lease ms  6 memory s
--      7 attempt that the caller has staged, or ''  8 how often one may be overtaken
--      9 length of a priority's band
-- Replies {'claimed', attempt, spec} | {'empty'}
local memory = ARGV[2] .. ARGV[4]
local attempt = redis.call('GET', memory)
if attempt then
  return {'claimed', attempt, redis.call('HGET', KEYS[2], attempt) or ''}
end
local first = redis.call('ZRANGE', KEYS[1], 0, 0)
attempt = first[1]
if not attempt then
  redis.call('DEL', KEYS[4])
  return {'empty'}
end
local overtakes = false
if ARGV[7] ~= '' and ARGV[7] ~= attempt and redis.call('ZSCORE', KEYS[1], ARGV[7]) then
  overtakes = tonumber(redis.call('HGET', KEYS[6], attempt) or '0') < tonumber(ARGV[8])
end
if overtakes then
  redis.call('HINCRBY', KEYS[6], attempt, 1)
  attempt = ARGV[7]
end
local spec = redis.call('HGET', KEYS[2], attempt) or ''
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
if left(KEYS[8], attempt) then
  local place = tonumber(redis.call('ZSCORE', KEYS[1], attempt)) % tonumber(ARGV[9])
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
redis.call('SET', memory, attempt, 'EX', ARGV[6])
return {'claimed', attempt, spec}
