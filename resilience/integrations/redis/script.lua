-- The records of the fleet. Each read and each change is one run of this script, which is atomic.
--
-- What is written to the store:
--
--   {prefix}:1:<region>           a hash, the record of one region; its fields are listed below
--   {prefix}:canary:<client id>   a hash, which shows that the store takes writes; for a minute
--   {prefix}:secret               a hash with two fields: a secret that only readers of this
--                                   database know, and how many processes heard the last change
--   {prefix}:hints                a channel, for two messages after each change of a record:
--                                   "<version> <key>\n<time> <signature> <fields>", which spares
--                                   the read, and "<version> <key>" for processes with an older
--                                   version of this package, which reads the record
--
--   f      format of the record: 1
--   v      version: grows with each change, and fences off an earlier holder of the lease
--   s      state: C closed, O open, H half open, F forced open
--   at     when it came into this state
--   own    client id of the process that holds the lease for probes, or nothing
--   beat   when the lease was renewed last
--   n      consecutive successful probes
--   by     client id of the process that caused the state
--   who    name of that process, for events and logs
--   why    reason, in short
--   votes  processes that have tripped below the quorum: "<client id>=<when>;" for each
--   sum    checksum of all fields above: a field that was changed by other means shows
--
-- A record lives for ten recovery timeouts, at least for a minute; a forced one and the secret for a
-- day, which polls renew.
--
-- How the script is run:
--
--   read           KEYS: records           ARGV: command, client id, lease
--   poll           KEYS: canary, secret, records
--                                          ARGV: command, client id, lease, channel, a new secret
--   any other      KEYS: record, secret    ARGV: command, client id, lease, channel, expected version,
--                    recovery timeout, quorum, successes or age, client name, reason, not after
--
-- A poll writes and reads all that records need: a user of the store who may not do so, or a store
-- that is full, is found out by polls, and not only when something happens.
--
-- Times are milliseconds of this server's clock, durations are milliseconds. A record holds when
-- things have happened, never until when, so that a time in the future is malformed. A malformed
-- record counts as absent. benchmarks/twin.py does the same in Python; a test compares the two.

local command, client_id, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])

local FIELDS = {'f', 'v', 's', 'at', 'own', 'beat', 'n', 'by', 'who', 'why', 'votes'}
local MAX_LENGTH = {
  f = 1, v = 15, s = 1, at = 15, own = 16, beat = 15, n = 15, by = 16, who = 300, why = 300,
  votes = 2000, sum = 40,
}
-- A clock that was ahead leaves versions behind that the right one must be able to outgrow.
local MOST_AHEAD = 100 * YEAR

-- Write fields one after the other, each with its length.
local function to_line(fields)
  local parts = {}
  for place, name in ipairs(FIELDS) do
    parts[place] = #fields[name] .. ':' .. fields[name]
  end
  return table.concat(parts)
end

local function to_votes(text)
  local votes = {}
  for voter, at in text:gmatch('(%x+)=(%d+);') do
    votes[voter] = tonumber(at)
  end
  return votes
end

-- Return a record, or nothing; and 1 if something malformed stands in its place.
local function load(key)
  local fields, strange = read_hash(key, MAX_LENGTH, #FIELDS + 1)
  if not fields then return nil, strange end
  local is_valid = fields.f == '1' and fields.s:find('^[COHF]$')
  if not is_valid or fields.sum ~= redis.sha1hex(to_line(fields)) then return nil, 1 end
  local record = {
    version = to_number(fields.v, now + MOST_AHEAD),
    state = fields.s,
    since = to_number(fields.at, now + MAX_CLOCK_ERROR),
    owner = fields.own,
    renewed_at = to_number(fields.beat, now + MAX_CLOCK_ERROR),
    successes = to_number(fields.n, YEAR),
    caused_by = fields.by,
    client_name = fields.who,
    reason = fields.why,
    votes = to_votes(fields.votes),
  }
  if record.version and record.since and record.renewed_at and record.successes then
    return record, 0
  end
  return nil, 1
end

local function lease_left(record)
  if record.state ~= 'H' or record.owner == '' then return 0 end
  return math.min(lease, math.max(0, record.renewed_at + lease - now))
end

-- format, version, state, age, lease left, whether the caller holds the lease, successes, whether
-- the caller caused the state, name and reason of the process that did, answer to the command,
-- whether something malformed was found, time
local function reply(record, malformed, answer)
  if not record then return {1, 0, '', 0, 0, 0, 0, 0, '', '', answer, malformed, now} end
  return {
    1, record.version, record.state, math.max(0, now - record.since), lease_left(record),
    record.owner == client_id and 1 or 0, record.successes,
    record.caused_by == client_id and 1 or 0, record.client_name, record.reason,
    answer, malformed, now,
  }
end

-- Reading

-- Do once what changes need, and return the secret, which is made where there is none, and the
-- size of the fleet.
local function check_store(canary, secret_key, channel, new_secret)
  local written = redis.pcall('HSET', canary, 'at', to_text(now))
  if type(written) == 'table' then
    if written.err:find('WRONGTYPE', 1, true) then remove(canary) end
    redis.call('HSET', canary, 'at', to_text(now))  -- fails with the error of the server
  end
  redis.call('PEXPIRE', canary, MINUTE)
  read_hash(canary, {at = 15}, 1)
  if redis.acl_check_cmd and not redis.acl_check_cmd('PUBLISH', channel, '') then
    redis.call('PUBLISH', channel, '')  -- fails with the error of the server
  end
  local secret, size = read_secret(secret_key)
  if secret == '' then
    remove(secret_key)
    redis.call('HSET', secret_key, 'secret', new_secret, 'size', '0')
    secret = new_secret
  end
  redis.call('PEXPIRE', secret_key, DAY)
  return secret, size
end

if command == 'read' or command == 'poll' then
  local first, replies = 1, {}
  if command == 'poll' then
    replies[1], replies[2] = check_store(KEYS[1], KEYS[2], ARGV[4], ARGV[5])
    first = 3
  end
  for place = first, #KEYS do
    local record, malformed = load(KEYS[place])
    if command == 'poll' and record and record.state == 'F' then
      redis.call('PEXPIRE', KEYS[place], DAY)
    end
    replies[#replies + 1] = reply(record, malformed, REFUSED)
  end
  return replies
end

-- Changing

local key, secret_key, channel, expected_version = KEYS[1], KEYS[2], ARGV[4], tonumber(ARGV[5])
local recovery_timeout, quorum = tonumber(ARGV[6]), tonumber(ARGV[7])
local successes_or_age, client_name, reason = tonumber(ARGV[8]), ARGV[9], ARGV[10]
local not_after = tonumber(ARGV[11])

local found, malformed = load(key)
if now > not_after then return reply(found, malformed, LATE) end
local needs_no_version = command == 'reset' or command == 'force' or command == 'withdraw'
if found and found.version > expected_version and not needs_no_version then
  return reply(found, malformed, REFUSED)
end
-- An older record than the caller knew of is left from before the store lost its data.
local absent = not found or found.version < expected_version
local record = found
if absent then
  record = {
    version = expected_version, state = 'C', since = 0, owner = '', renewed_at = 0, successes = 0,
    caused_by = '', client_name = '', reason = '', votes = {},
  }
end

-- Save the record, and return its fields in one line.
local function save()
  local votes = {}
  for voter, at in pairs(record.votes) do
    votes[#votes + 1] = voter .. '=' .. to_text(at) .. ';'
  end
  table.sort(votes)
  local fields = {
    f = '1',
    v = to_text(record.version),
    s = record.state,
    at = to_text(record.since),
    own = record.owner,
    beat = to_text(record.renewed_at),
    n = to_text(record.successes),
    by = record.caused_by,
    who = record.client_name,
    why = record.reason,
    votes = table.concat(votes),
  }
  local line = to_line(fields)
  local flat = {'sum', redis.sha1hex(line)}
  for _, name in ipairs(FIELDS) do
    flat[#flat + 1] = name
    flat[#flat + 1] = fields[name]
  end
  if malformed == 1 then remove(key) end
  redis.call('HSET', key, unpack(flat))
  local lifetime = record.state == 'F' and DAY or math.max(10 * recovery_timeout, MINUTE)
  redis.call('PEXPIRE', key, lifetime)
  return line
end

-- Announce a change. The signature shows that it is about this database, and not about another one
-- on the same server, and that nobody has made it up who may only publish.
local function announce(line)
  local hint = to_text(record.version) .. ' ' .. key
  local secret = read_secret(secret_key)
  if secret ~= '' then
    local signed = to_text(now) .. ' ' .. key .. ' ' .. line
    local signature = redis.sha1hex(secret .. signed .. secret)
    redis.call('PUBLISH', channel, hint .. '\n' .. to_text(now) .. ' ' .. signature .. ' ' .. line)
  end
  local size = redis.call('PUBLISH', channel, hint)
  if secret ~= '' then redis.call('HSET', secret_key, 'size', to_text(size)) end
end

-- Save a new version, and announce it. Versions grow with the clock, so that they never fall below
-- one that somebody has seen, not even in a store that was restarted empty.
local function save_as_new_version(state, since)
  record.version = math.max(record.version, expected_version, now - 1) + 1
  record.state, record.since = state, since
  announce(save())
end

-- Enter a state that ends all leases and votes.
local function enter(state, since)
  record.owner, record.renewed_at, record.successes, record.votes = '', 0, 0, {}
  record.caused_by, record.client_name, record.reason = client_id, client_name, reason
  save_as_new_version(state, since)
end

local is_mine = record.state == 'H' and record.owner == client_id
local is_due = record.state == 'O' and now - record.since >= recovery_timeout
local happened_at = math.max(0, now - successes_or_age)

local function trip()
  local is_open = record.state == 'F' or (record.state == 'O' and not is_due)
  if is_open or lease_left(record) > 0 then return REFUSED end
  local count = 0
  record.votes[client_id] = happened_at
  for voter, at in pairs(record.votes) do
    if at > now + MAX_CLOCK_ERROR or now - at >= recovery_timeout then
      record.votes[voter] = nil
    else
      count = count + 1
    end
  end
  if count >= quorum then enter('O', happened_at) else save() end
  return DONE
end

local function withdraw()
  if not record.votes[client_id] then return REFUSED end
  record.votes[client_id] = nil
  save()
  return DONE
end

local function take()
  if is_mine then
    record.renewed_at = now
    save()
    return DONE
  end
  local is_free = record.state == 'H' and lease_left(record) == 0
  if not (absent or is_due or is_free) then return REFUSED end
  if record.state ~= 'H' then record.successes = 0 end
  if absent then
    record.successes, record.client_name, record.reason = successes_or_age, client_name, reason
  end
  record.owner, record.renewed_at = client_id, now
  save_as_new_version('H', record.state == 'H' and record.since or now)
  return DONE
end

local function renew()
  if is_mine then
    record.successes = math.max(record.successes, successes_or_age)
    record.renewed_at = now
    save()
    return DONE
  end
  if not absent then return REFUSED end
  record.owner, record.renewed_at, record.successes = client_id, now, successes_or_age
  record.client_name, record.reason = client_name, reason
  save_as_new_version('H', now)
  return DONE
end

local function release()
  if not is_mine then return REFUSED end
  record.successes = math.max(record.successes, successes_or_age)
  record.owner, record.renewed_at = '', 0
  save_as_new_version('H', record.since)
  return DONE
end

-- For the holder, and for a process that has probed alone while nobody held the lease.
local function end_probing(state, since)
  local is_free = record.state == 'O' or (record.state == 'H' and record.owner == '')
  if not (absent or is_mine or is_free) then return REFUSED end
  enter(state, since)
  return DONE
end

local function by_hand(state)
  enter(state, now)
  return DONE
end

local changes = {
  trip = trip,
  withdraw = withdraw,
  take = take,
  renew = renew,
  release = release,
  close = function() return end_probing('C', now) end,
  reopen = function() return end_probing('O', happened_at) end,
  reset = function() return by_hand('C') end,
  force = function() return by_hand('F') end,
}
local change = changes[command]
if not change then return redis.error_reply('ERR unknown change') end
local answer = change()
return reply(record, 0, answer)
