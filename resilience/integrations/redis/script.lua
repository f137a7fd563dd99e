-- The records of the fleet: reading them, and every change of one, each as one atomic step.
--
--   read   KEYS: records                        ARGV: op, me, lease
--   poll   KEYS: canary, records                ARGV: op, me, lease
--   else   KEYS: record                         ARGV: op, me, lease, channel, expected version,
--            recovery, quorum, argument, who, why, not after
--
-- Times are milliseconds of this server's clock, durations milliseconds. A record holds when things
-- happened and never until when, so that a time in the future is malformed. What is malformed
-- counts as absent. benchmarks/twin.py says the same in Python; a test holds the two together.

local FIELDS = {'f', 'v', 's', 'at', 'own', 'beat', 'n', 'by', 'who', 'why', 'votes'}
local LONGEST = {
  f = 1, v = 15, s = 1, at = 15, own = 16, beat = 15, n = 15, by = 16, who = 300, why = 300,
  votes = 2000,
}
local SOON, YEAR, DAY = 1000, 31536000000, 86400000
local LATE = 2

local op, me, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function text(number)
  return string.format('%.0f', number)
end

local function whole(value, most)
  local number = #value <= 15 and value:find('^%d+$') and tonumber(value)
  return number and number <= most and number
end

-- Any field that something else has changed shows.
local function checksum(raw)
  local parts = {}
  for place, name in ipairs(FIELDS) do
    parts[place] = #raw[name] .. ':' .. raw[name]
  end
  return redis.sha1hex(table.concat(parts))
end

local function parse_votes(value)
  local votes = {}
  for id, at in value:gmatch('(%x+)=(%d+);') do
    votes[id] = tonumber(at)
  end
  return votes
end

-- Give the record, or nothing, and whether there is something that is no record.
local function load(key)
  local flat = redis.pcall('HGETALL', key)
  if flat.err then return nil, 1 end
  if #flat == 0 then return nil, 0 end
  if #flat ~= 2 * (#FIELDS + 1) then return nil, 1 end
  local raw = {}
  for place = 1, #flat, 2 do raw[flat[place]] = flat[place + 1] end
  for _, name in ipairs(FIELDS) do
    if not raw[name] or #raw[name] > LONGEST[name] then return nil, 1 end
  end
  if raw.f ~= '1' or not raw.s:find('^[COHF]$') or raw.sum ~= checksum(raw) then return nil, 1 end
  local r = {
    v = whole(raw.v, now + YEAR), s = raw.s, at = whole(raw.at, now + SOON), own = raw.own,
    beat = whole(raw.beat, now + SOON), n = whole(raw.n, YEAR), by = raw.by, who = raw.who,
    why = raw.why, votes = parse_votes(raw.votes),
  }
  if r.v and r.at and r.beat and r.n then return r, 0 end
  return nil, 1
end

local function left_of_lease(r)
  if r.s ~= 'H' or r.own == '' then return 0 end
  return math.min(lease, math.max(0, r.beat + lease - now))
end

-- format, version, state, age, lease left, mine, successes, opened by me, who, why, done, bad, now
local function view(r, bad, done)
  if not r then return {1, 0, '', 0, 0, 0, 0, 0, '', '', done, bad, now} end
  return {
    1, r.v, r.s, math.max(0, now - r.at), left_of_lease(r), r.own == me and 1 or 0, r.n,
    r.by == me and 1 or 0, r.who, r.why, done, bad, now,
  }
end

if op == 'read' or op == 'poll' then
  local first = 1
  if op == 'poll' then
    -- A store that takes no writes is found out here, while nothing else writes.
    redis.call('SET', KEYS[1], me, 'PX', 60000)
    first = 2
  end
  local views = {}
  for place = first, #KEYS do
    local r, bad = load(KEYS[place])
    if op == 'poll' and r and r.s == 'F' then redis.call('PEXPIRE', KEYS[place], DAY) end
    views[#views + 1] = view(r, bad, 0)
  end
  return views
end

local key, channel = KEYS[1], ARGV[4]
local expected, recovery, quorum = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local argument, who, why, not_after = tonumber(ARGV[8]), ARGV[9], ARGV[10], tonumber(ARGV[11])

local found, bad = load(key)
if now > not_after then return view(found, bad, LATE) end
local by_hand = op == 'reset' or op == 'force'
if found and found.v > expected and not by_hand and op ~= 'withdraw' then
  return view(found, bad, 0)
end
local absent = not found or found.v < expected
local r = found
if absent then
  r = {v = expected, s = 'C', at = 0, own = '', beat = 0, n = 0, by = '', who = '', why = '',
       votes = {}}
end

local function save()
  local votes = {}
  for id, at in pairs(r.votes) do votes[#votes + 1] = id .. '=' .. text(at) .. ';' end
  local raw = {
    f = '1', v = text(r.v), s = r.s, at = text(r.at), own = r.own, beat = text(r.beat),
    n = text(r.n), by = r.by, who = r.who, why = r.why, votes = table.concat(votes),
  }
  local flat = {'sum', checksum(raw)}
  for _, name in ipairs(FIELDS) do
    flat[#flat + 1] = name
    flat[#flat + 1] = raw[name]
  end
  if bad == 1 then redis.call('DEL', key) end
  redis.call('HSET', key, unpack(flat))
  redis.call('PEXPIRE', key, r.s == 'F' and DAY or math.max(10 * recovery, 60000))
end

local function change(state, at)
  r.v = math.max(r.v, expected, now - 1) + 1
  r.s, r.at = state, at
  save()
  redis.call('PUBLISH', channel, text(r.v) .. ' ' .. key)
end

local function settle(state, at)
  r.own, r.beat, r.n, r.votes = '', 0, 0, {}
  r.by, r.who, r.why = me, who, why
  change(state, at)
end

local mine = r.s == 'H' and r.own == me
local due = r.s == 'O' and now - r.at >= recovery
local since = math.max(0, now - argument)
local done = 1

if op == 'trip' then
  if r.s == 'F' or (r.s == 'O' and not due) or left_of_lease(r) > 0 then
    done = 0
  else
    local count = 0
    r.votes[me] = since
    for id, at in pairs(r.votes) do
      if at > now + SOON or now - at >= recovery then r.votes[id] = nil else count = count + 1 end
    end
    if count >= quorum then settle('O', since) else save() end
  end
elseif op == 'withdraw' then
  if r.votes[me] then
    r.votes[me] = nil
    save()
  else
    done = 0
  end
elseif op == 'take' then
  if mine then
    r.beat = now
    save()
  elseif absent or due or (r.s == 'H' and left_of_lease(r) == 0) then
    if r.s ~= 'H' then r.n = 0 end
    if absent then r.n, r.who, r.why = argument, who, why end
    r.own, r.beat = me, now
    change('H', r.s == 'H' and r.at or now)
  else
    done = 0
  end
elseif op == 'renew' then
  if mine then
    r.n, r.beat = math.max(r.n, argument), now
    save()
  elseif absent then
    r.own, r.beat, r.n, r.who, r.why = me, now, argument, who, why
    change('H', now)
  else
    done = 0
  end
elseif op == 'release' then
  if mine then
    r.n, r.own, r.beat = math.max(r.n, argument), '', 0
    change('H', r.at)
  else
    done = 0
  end
elseif op == 'close' or op == 'reopen' then
  -- The holder may, and who probed alone because nobody held it.
  if absent or mine or r.s == 'O' or (r.s == 'H' and r.own == '') then
    if op == 'close' then settle('C', now) else settle('O', since) end
  else
    done = 0
  end
elseif op == 'reset' then
  settle('C', now)
elseif op == 'force' then
  settle('F', now)
else
  return redis.error_reply('ERR unknown change')
end
return view(r, 0, done)
