-- Give an attempt's lease up. Only its holder can.
-- KEYS 1 leases (zset)  2 specs (hash)  3 lease (hash)  4 recorded (hash)
-- ARGV 1 attempt  2 token
-- Replies {'released'} | {'lost'}
if redis.call('HGET', KEYS[3], 'token') ~= ARGV[2] then
  return {'lost'}
end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[4], ARGV[1])
redis.call('DEL', KEYS[3])
return {'released'}
