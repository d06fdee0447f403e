-- Take the first waiting attempt and lease it to the caller; or the one whose inputs the caller
-- has fetched ahead, as long as the first one has not been overtaken too often by that.
-- A repeated call with the same token gets the same answer, so a lost reply costs nothing.
-- A claim is a sign of life, as a heartbeat is: who was silent for long begins anew with it.
-- KEYS and ARGV 1 to 7: see take.lua
-- ARGV 8 attempt that the caller has staged, or ''  9 how often one may be overtaken
-- Replies {'claimed', attempt, spec} | {'empty'}
local memory = ARGV[2] .. ARGV[4]
local attempt = redis.call('GET', memory)
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
if ARGV[8] ~= '' and ARGV[8] ~= attempt and redis.call('ZSCORE', KEYS[1], ARGV[8]) then
  overtakes = tonumber(redis.call('HGET', KEYS[6], attempt) or '0') < tonumber(ARGV[9])
end
if overtakes then
  redis.call('HINCRBY', KEYS[6], attempt, 1)
  attempt = ARGV[8]
end
take(attempt)
return {'claimed', attempt, redis.call('HGET', KEYS[2], attempt) or ''}
