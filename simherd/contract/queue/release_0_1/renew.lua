-- An executor's heartbeat: extend its leases, learn which are lost and what was recorded.
-- A lease that Redis has forgotten is given back to whoever presents it: the attempt number
-- in SQL is the fence, and a revoked lease is remembered with the token 'revoked'.
-- KEYS 1 leases (zset)  2 machines (zset)  3 recorded (hash)  4 specs (hash)
-- ARGV 1 lease key prefix  2 holder  3 lease ms, then for each attempt:
--      attempt, token, number of its last event, '1' when that event ends it
-- Replies one row an attempt: {attempt, 'held' | 'lost' | 'recorded', events recorded}
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('ZADD', KEYS[2], ms, ARGV[2])
local rows = {}
for i = 4, #ARGV, 4 do
  local attempt, token, last = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  local lease = ARGV[1] .. attempt
  local recorded = tonumber(redis.call('HGET', KEYS[3], attempt) or '0')
  local holder = redis.call('HGET', lease, 'token')
  if ARGV[i + 3] == '1' and recorded >= last then
    redis.call('ZREM', KEYS[1], attempt)
    redis.call('DEL', lease)
    redis.call('HDEL', KEYS[3], attempt)
    redis.call('HDEL', KEYS[4], attempt)
    rows[#rows + 1] = {attempt, 'recorded', recorded}
  elseif holder and holder ~= token then
    rows[#rows + 1] = {attempt, 'lost', recorded}
  else
    redis.call('HSET', lease, 'holder', ARGV[2], 'token', token)
    redis.call('ZADD', KEYS[1], ms + tonumber(ARGV[3]), attempt)
    rows[#rows + 1] = {attempt, 'held', recorded}
  end
end
return rows
