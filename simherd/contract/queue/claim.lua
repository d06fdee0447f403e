-- Take the first waiting attempt and lease it to the caller; or the one whose inputs the caller
-- has fetched ahead, as long as the first one has not been overtaken too often by that.
-- A repeated call with the same token gets the same answer, so a lost reply costs nothing.
-- A claim is a sign of life, as a heartbeat is: who was silent for long begins anew with it.
-- KEYS and ARGV 1 to 5: see take.lua
-- ARGV 6 attempt that the caller has staged, or ''  7 how often one may be overtaken
-- Replies {'claimed', attempt, spec} | {'empty'}
local attempt = remembered()
if attempt then
  return {'claimed', attempt, redis.call('HGET', KEYS[2], attempt) or ''}
end
local first = redis.call('ZRANGE', KEYS[1], 0, 0)
attempt = first[1]
if not attempt then
  redis.call('DEL', KEYS[4])
  return {'empty'}
end
local overtakes = false
if ARGV[6] ~= '' and ARGV[6] ~= attempt and redis.call('ZSCORE', KEYS[1], ARGV[6]) then
  overtakes = tonumber(redis.call('HGET', KEYS[6], attempt) or '0') < tonumber(ARGV[7])
end
if overtakes then
  redis.call('HINCRBY', KEYS[6], attempt, 1)
  attempt = ARGV[6]
end
take(attempt)
return {'claimed', attempt, redis.call('HGET', KEYS[2], attempt) or ''}
