-- Claim for a whole group of machines that work together: all of them or none.
-- Whoever calls is free, and is known to be for a while. The one with the smallest name leads: once
-- enough are free it gets the first waiting attempt, and the others are bound to it in the same
-- moment. A gang whose lease is gone has ended. A repeated call gets the same answer.
-- KEYS and ARGV 1 to 7: see take.lua; KEYS 9 ready (zset)  10 gangs (hash)
-- ARGV 8 how many machines there are  9 ms for which one is known to be free
-- Replies {'claimed', attempt, spec, members} (leader first, commas between) | {'empty'}
--       | {'member', attempt, leader} (of a gang, already) | {'gather'} (the caller leads, and too
--         few are free) | {'follow'} (another leads)
local attempt = redis.call('GET', ARGV[2] .. ARGV[4])
if attempt then
  local members = redis.call('HGET', KEYS[10], attempt) or ARGV[3]
  return {'claimed', attempt, redis.call('HGET', KEYS[2], attempt) or '', members}
end
local gangs = redis.call('HGETALL', KEYS[10])
for i = 1, #gangs, 2 do
  if not redis.call('ZSCORE', KEYS[3], gangs[i]) then
    redis.call('HDEL', KEYS[10], gangs[i])
  elseif string.find(',' .. gangs[i + 1] .. ',', ',' .. ARGV[3] .. ',', 1, true) then
    return {'member', gangs[i], string.match(gangs[i + 1], '^[^,]*')}
  end
end
local ms = now_ms()
redis.call('ZADD', KEYS[7], ms, ARGV[3])
redis.call('ZADD', KEYS[9], ms, ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[9], '-inf', ms - tonumber(ARGV[9]))
local members = redis.call('ZRANGE', KEYS[9], 0, -1)
table.sort(members)
if members[1] ~= ARGV[3] then
  return {'follow'}
end
if #members < tonumber(ARGV[8]) then
  return {'gather'}
end
attempt = redis.call('ZRANGE', KEYS[1], 0, 0)[1]
if not attempt then
  redis.call('DEL', KEYS[4])
  return {'empty'}
end
members = {unpack(members, 1, tonumber(ARGV[8]))}
redis.call('ZREM', KEYS[9], unpack(members))
redis.call('HSET', KEYS[10], attempt, table.concat(members, ','))
take(attempt)
return {'claimed', attempt, redis.call('HGET', KEYS[2], attempt) or '', table.concat(members, ',')}
