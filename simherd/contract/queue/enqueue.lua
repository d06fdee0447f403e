-- Put an attempt into the queue and ring for one idle slot.
-- Repeating it is harmless: an attempt that waits or is held stays as it is.
-- Where several users share a group, `order` is where their attempts' band of equal priority
-- begins, and the place within is made here: each user's attempts are one apart, and begin where
-- the queue is now, so that users take turns however many each has sent (start-time fair queueing,
-- Goyal, Vin and Cheng 1996). What goes `ahead` is next.
-- KEYS 1 queue (zset)  2 specs (hash)  3 bell (list)  4 leases (zset)  5 fair (hash)
-- ARGV 1 attempt  2 order  3 spec  4 longest bell  5 user, or '' in a group of one user
--      6 '1' for an attempt that goes ahead
-- Replies {'queued'} | {'present'} (it waits already; its spec is renewed) | {'held'}
if redis.call('ZSCORE', KEYS[4], ARGV[1]) then
  return {'held'}
end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
if redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  return {'present'}
end
local score, user = tonumber(ARGV[2]), ARGV[5]
if user ~= '' then
  local now = tonumber(redis.call('HGET', KEYS[5], 'now') or '0')
  local place = now
  if ARGV[6] ~= '1' then
    place = math.max(now, tonumber(redis.call('HGET', KEYS[5], 'last:' .. user) or '0')) + 1
    redis.call('HSET', KEYS[5], 'last:' .. user, string.format('%.0f', place))
  end
  redis.call('HSET', KEYS[5], 'of:' .. ARGV[1], user)
  redis.call('HINCRBY', KEYS[5], 'waiting:' .. user, 1)
  score = score + place
end
redis.call('ZADD', KEYS[1], string.format('%.0f', score), ARGV[1])
if redis.call('LLEN', KEYS[3]) < tonumber(ARGV[4]) then
  redis.call('RPUSH', KEYS[3], '1')
end
return {'queued'}
