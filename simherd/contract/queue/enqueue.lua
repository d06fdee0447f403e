-- Put an attempt into the queue and ring for one idle slot.
-- Repeating it is harmless: an attempt that waits or is held stays as it is.
-- KEYS 1 queue (zset)  2 specs (hash)  3 bell (list)  4 leases (zset)
-- ARGV 1 attempt  2 order  3 spec  4 longest bell
-- Replies {'queued'} | {'present'} (it waits already; its spec is renewed) | {'held'}
if redis.call('ZSCORE', KEYS[4], ARGV[1]) then
  return {'held'}
end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
if redis.call('ZADD', KEYS[1], 'NX', ARGV[2], ARGV[1]) == 0 then
  return {'present'}
end
if redis.call('LLEN', KEYS[3]) < tonumber(ARGV[4]) then
  redis.call('RPUSH', KEYS[3], '1')
end
return {'queued'}
