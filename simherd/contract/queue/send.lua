-- Put a message into an executor's inbox.
-- KEYS 1 see unlimited.lua  2 inbox (stream)
-- ARGV 1 message  2 messages kept at the most  3 seconds for which the inbox is kept
-- Replies the entry's id
local entry = redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], '*', 'm', ARGV[1])
redis.call('EXPIRE', KEYS[2], ARGV[3])
return entry
