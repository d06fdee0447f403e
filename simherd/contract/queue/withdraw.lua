-- Take a waiting attempt out of the queue.
-- KEYS 1 queue (zset)  2 specs (hash)  3 lease (hash)  4 staged (hash)  5 overtaken (hash)
--      6 fair (hash)
-- ARGV 1 attempt
-- Replies {'withdrawn', mark} (it was still waiting; the mark says who fetched for it, or is '')
--       | {'held', holder} | {'absent'}
if redis.call('ZREM', KEYS[1], ARGV[1]) == 1 then
  local mark = redis.call('HGET', KEYS[4], ARGV[1]) or ''
  redis.call('HDEL', KEYS[2], ARGV[1])
  redis.call('HDEL', KEYS[4], ARGV[1])
  redis.call('HDEL', KEYS[5], ARGV[1])
  left(KEYS[6], ARGV[1])
  return {'withdrawn', mark}
end
local holder = redis.call('HGET', KEYS[3], 'holder')
if holder and holder ~= '' then
  return {'held', holder}
end
return {'absent'}
