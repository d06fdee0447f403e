-- Note which reports stand in SQL, and drop the entries before one from the stream.
-- KEYS 1 see unlimited.lua  2 recorded (hash)  3 events (stream)
-- ARGV 1 the first entry that is kept, then attempt and number of its last recorded report, each
-- Replies 1
for i = 2, #ARGV, 2 do
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
end
redis.call('XTRIM', KEYS[3], 'MINID', '~', ARGV[1])
return 1
