-- Which processes share. Run when a process connects, now and then while it is connected, and when
-- it ends.
--
-- {prefix}:processes   a sorted set: "<client id> <client name>" by the time of the last sign of life
--
-- KEYS: the set. ARGV: member, milliseconds without a sign of life until a process counts as gone,
-- whether this one ends (1 or 0), the most names to return.

local member, lifetime, ends, most = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1', tonumber(ARGV[4])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

redis.call('ZADD', KEYS[1], ends and now - lifetime or now, member)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - lifetime)
redis.call('PEXPIRE', KEYS[1], lifetime)
return {redis.call('ZCARD', KEYS[1]), redis.call('ZREVRANGE', KEYS[1], 0, most)}
