-- Take a lease from its holder for good: the next heartbeat is told that it is lost.
-- KEYS 1 leases (zset)  2 specs (hash)  3 lease (hash)  4 recorded (hash)
-- ARGV 1 attempt  2 seconds to remember it
-- Replies {'revoked', holder}; the holder is '' when there was none
local holder = redis.call('HGET', KEYS[3], 'holder') or ''
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[4], ARGV[1])
redis.call('HSET', KEYS[3], 'holder', '', 'token', 'revoked')
redis.call('EXPIRE', KEYS[3], ARGV[2])
return {'revoked', holder}
