-- Take a waiting attempt out of the queue.
-- KEYS 1 queue (zset)  2 specs (hash)  3 lease (hash)
-- ARGV 1 attempt
-- Replies {'withdrawn'} (it was still waiting) | {'held', holder} | {'absent'}
if redis.call('ZREM', KEYS[1], ARGV[1]) == 1 then
  redis.call('HDEL', KEYS[2], ARGV[1])
  return {'withdrawn'}
end
local holder = redis.call('HGET', KEYS[3], 'holder')
if holder and holder ~= '' then
  return {'held', holder}
end
return {'absent'}
