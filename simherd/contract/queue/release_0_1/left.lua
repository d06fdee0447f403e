-- Put before the scripts that take an attempt out of the queue: it waits no more, and a user of
-- whom nothing waits any more begins anew. Answers whether the group's users take turns.
local function left(fair, attempt)
  local user = redis.call('HGET', fair, 'of:' .. attempt)
  if not user then
    return false
  end
  redis.call('HDEL', fair, 'of:' .. attempt)
  if redis.call('HINCRBY', fair, 'waiting:' .. user, -1) <= 0 then
    redis.call('HDEL', fair, 'waiting:' .. user, 'last:' .. user)
  end
  return true
end
