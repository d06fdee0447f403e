-- Collect overdue leases. Nothing is changed: what becomes of them is decided in SQL.
-- KEYS 1 leases (zset)  2 machines (zset)
-- ARGV 1 lease key prefix  2 how many at the most
-- Replies {now ms, number of leases, rows}; a row is {attempt, holder, expiry ms, last heartbeat ms}
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
local rows = {}
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ms, 'WITHSCORES', 'LIMIT', 0, ARGV[2])
for i = 1, #due, 2 do
  local holder = redis.call('HGET', ARGV[1] .. due[i], 'holder') or ''
  local seen = redis.call('ZSCORE', KEYS[2], holder) or '0'
  rows[#rows + 1] = {due[i], holder, due[i + 1], seen}
end
return {ms, redis.call('ZCARD', KEYS[1]), rows}
