-- Which processes share. Run when a process connects, now and then while it is connected, and when
-- it ends.
--
-- {prefix}:processes   a sorted set: "<client id> <client name>" by the time of the last sign of life
--
-- KEYS: the set. ARGV: member, milliseconds without a sign of life until a process counts as gone,
-- whether this one ends (1 or 0), the most names to return, and the most bytes of each.

local key, member, lifetime, ends = KEYS[1], ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'
local most_names, most_bytes = tonumber(ARGV[4]), tonumber(ARGV[5])

drop_members(key, now - lifetime, now + MINUTE)
redis.call('ZADD', key, ends and now - lifetime or now, member)
if ends then drop_members(key, now - lifetime, now + MINUTE) end
redis.call('PEXPIRE', key, lifetime)
local names = redis.call('ZREVRANGE', key, 0, most_names)
for place, name in ipairs(names) do
  if #name > most_bytes then names[place] = '' end
end
return {redis.call('ZCARD', key), names}
