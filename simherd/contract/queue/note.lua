-- Write what the scheduler notes for itself: a string, or fields of a hash.
-- KEYS 1 see unlimited.lua  2 key
-- ARGV 1 'new' (a string, unless it is there), 'string' or 'hash'  2 value, or fields and values
-- Replies 1
if ARGV[1] == 'new' then
  redis.call('SET', KEYS[2], ARGV[2], 'NX')
elseif ARGV[1] == 'string' then
  redis.call('SET', KEYS[2], ARGV[2])
else
  redis.call('HSET', KEYS[2], unpack(ARGV, 2))
end
return 1
