-- Let a busy executor fetch ahead what a waiting attempt needs. The attempt stays in the queue,
-- for whoever is free first; the mark only keeps two executors from fetching the same.
-- KEYS 1 queue (zset)  2 specs (hash)  3 staged (hash: attempt → 'expiry ms:executor')
-- ARGV 1 executor  2 attempt that it has staged, or ''  3 mark ms  4 how many of the first it may
--      choose from
-- Replies {'kept'} | {'stage', attempt, spec} | {'none'}; without 'kept' what it had is to go
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
local mark = string.format('%.0f:%s', ms + tonumber(ARGV[3]), ARGV[1])
if ARGV[2] ~= '' and redis.call('ZSCORE', KEYS[1], ARGV[2]) then
  redis.call('HSET', KEYS[3], ARGV[2], mark)
  return {'kept'}
end
local waiting = redis.call('ZRANGE', KEYS[1], 0, tonumber(ARGV[4]) - 1)
for _, attempt in ipairs(waiting) do
  local old = redis.call('HGET', KEYS[3], attempt)
  local expiry = old and tonumber(string.match(old, '^%d+')) or 0
  if expiry < ms then
    local spec = redis.call('HGET', KEYS[2], attempt)
    if spec then
      redis.call('HSET', KEYS[3], attempt, mark)
      return {'stage', attempt, spec}
    end
  end
end
return {'none'}
