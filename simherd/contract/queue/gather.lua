-- Claim for a whole group of machines that work together: all of them or none.
-- Whoever calls is free, and is known to be for a while. The one with the smallest name leads: once
-- enough are free it gets the first waiting attempt, and the others are bound to it in the same
-- moment. A gang whose lease is gone has ended. A repeated call gets the same answer.
-- KEYS and ARGV 1 to 5: see take.lua; KEYS 10 ready (zset)  11 gangs (hash)
-- ARGV 6 how many machines there are  7 ms for which one is known to be free
-- Replies {'claimed', attempt, spec, members} (leader first, commas between) | {'empty'}
--       | {'member', attempt, leader} (of a gang, already) | {'gather'} (the caller leads, and too
--         few are free) | {'follow'} (another leads)
local attempt = remembered()
if attempt then
  local members = redis.call('HGET', KEYS[11], attempt) or ARGV[2]
  return {'claimed', attempt, redis.call('HGET', KEYS[2], attempt) or '', members}
end
local gangs = redis.call('HGETALL', KEYS[11])
for i = 1, #gangs, 2 do
  if not redis.call('ZSCORE', KEYS[3], gangs[i]) then
    redis.call('HDEL', KEYS[11], gangs[i])
  elseif string.find(',' .. gangs[i + 1] .. ',', ',' .. ARGV[2] .. ',', 1, true) then
    return {'member', gangs[i], string.match(gangs[i + 1], '^[^,]*')}
  end
end
local ms = now_ms()
redis.call('ZADD', KEYS[7], ms, ARGV[2])
redis.call('ZADD', KEYS[10], ms, ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[10], '-inf', ms - tonumber(ARGV[7]))
local members = redis.call('ZRANGE', KEYS[10], 0, -1)
table.sort(members)
if members[1] ~= ARGV[2] then
  return {'follow'}
end
if #members < tonumber(ARGV[6]) then
  return {'gather'}
end
attempt = redis.call('ZRANGE', KEYS[1], 0, 0)[1]
if not attempt then
  redis.call('DEL', KEYS[4])
  return {'empty'}
end
members = {unpack(members, 1, tonumber(ARGV[6]))}
redis.call('ZREM', KEYS[10], unpack(members))
redis.call('HSET', KEYS[11], attempt, table.concat(members, ','))
take(attempt)
return {'claimed', attempt, redis.call('HGET', KEYS[2], attempt) or '', table.concat(members, ',')}
