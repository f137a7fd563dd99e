-- The throttled tenants of the fleet. Each change is one run of this script, which is atomic. Only
-- processes whose calls have tenants run it.
--
-- What is written to the store:
--
--   {prefix}:throttle:<region>:<tenant>   a hash, the record of one tenant
--   {prefix}:throttled:<region>           a sorted set: tenants by the time when their wait is over,
--                                         for processes that start or have missed an announcement
--   {prefix}:hints                        the channel of script.lua, for one message after each
--                                         change: "t <time> <signature> <fields>", signed with the
--                                         secret of script.lua
--
--   at     when the wait began, or was prolonged
--   wait   how long it is from then on, at most an hour
--   told   how long of it was announced
--   kind   r: it ends with a probe that is answered; h: it ends by itself
--   own    client id of the process that holds the lease for the probe, or nothing
--   beat   when the lease was renewed last
--
-- A record lives for a minute longer than its wait, or than the lease.
--
-- How the script is run:
--
--   find          KEYS: sorted sets            ARGV: command, client id, lease, the most tenants of each
--   any other     KEYS: record, sorted set, secret
--                                              ARGV: command, client id, lease, channel, key of the
--                   region's record, tenant, wait, kind, not after
--
-- Times are milliseconds of this server's clock, durations are milliseconds. As in script.lua, a
-- record holds when things have happened, and what is malformed counts as absent.

local command, client_id, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])

local MAX_LENGTH = {at = 15, wait = 7, told = 7, kind = 1, own = 16, beat = 15}
local FIELDS = 6
local MOST_TENANTS, MOST_BYTES = 10000, 1000

-- The tenants by the end of their wait. A user of the store may lack the right to sorted sets:
-- then a process that starts finds out by itself.

if command == 'find' then
  local found = {}
  for place, key in ipairs(KEYS) do
    drop_members(key, now - MINUTE, now + HOUR + MINUTE)
    local listed, names = redis.pcall('ZREVRANGE', key, 0, tonumber(ARGV[4]) - 1, 'WITHSCORES'), {}
    if listed.err then listed = {} end
    for index = 1, #listed, 2 do
      local left = tonumber(listed[index + 1]) - now
      if #listed[index] <= MOST_BYTES and left <= HOUR then
        names[#names + 1] = listed[index]
        names[#names + 1] = math.max(0, math.floor(left))
      end
    end
    found[place] = names
  end
  return found
end

local function list(key, tenant, until_)
  local count = redis.pcall('ZCARD', key)
  if type(count) ~= 'number' or count >= MOST_TENANTS then return end
  redis.pcall('ZADD', key, to_text(until_), tenant)
  redis.pcall('PEXPIRE', key, HOUR + MINUTE)
end

local function unlist(key, tenant)
  redis.pcall('ZADD', key, to_text(now - MINUTE), tenant)
  drop_members(key, now - MINUTE, now + HOUR + MINUTE)
end

-- One record

local function load(key)
  local fields = read_hash(key, MAX_LENGTH, FIELDS)
  if not fields then return nil end
  local record = {
    since = to_number(fields.at, now + MAX_CLOCK_ERROR),
    wait = to_number(fields.wait, HOUR),
    told = to_number(fields.told, HOUR),
    kind = fields.kind:find('^[rh]$') and fields.kind,
    owner = fields.own,
    renewed_at = to_number(fields.beat, now + MAX_CLOCK_ERROR),
  }
  local is_valid = record.since and record.wait and record.told and record.kind and record.renewed_at
  return is_valid and record or nil
end

local key, listed, secret_key, channel, region, tenant = KEYS[1], KEYS[2], KEYS[3], ARGV[4], ARGV[5], ARGV[6]
local wait, kind, not_after = tonumber(ARGV[7]), ARGV[8], tonumber(ARGV[9])

local found = load(key)
local record = found or {since = now, wait = 0, told = 0, kind = kind, owner = '', renewed_at = 0}
local is_mine = record.owner == client_id

-- Return what is left of a time that began with the wait.
local function left_of(duration)
  return math.min(duration, math.max(0, record.since + duration - now))
end

local function wait_left()
  return left_of(record.wait)
end

local function lease_left()
  if record.owner == '' then return 0 end
  return math.min(lease, math.max(0, record.renewed_at + lease - now))
end

local function save()
  if not found then remove(key) end
  redis.call(
    'HSET', key, 'at', to_text(record.since), 'wait', to_text(record.wait),
    'told', to_text(record.told), 'kind', record.kind, 'own', record.owner,
    'beat', to_text(record.renewed_at)
  )
  redis.call('PEXPIRE', key, wait_left() + lease_left() + MINUTE)
end

-- Announce what has changed: w a wait, e the end, l the lease. Who it is for believes it because of
-- the signature, as with the announcements of script.lua.
local function announce(change)
  local secret = read_secret(secret_key)
  if secret == '' then return end
  local parts = {
    region, tenant, client_id, change, record.kind, to_text(wait_left()), to_text(lease_left()),
  }
  for place, part in ipairs(parts) do parts[place] = #part .. ':' .. part end
  local line = table.concat(parts)
  local signature = redis.sha1hex(secret .. to_text(now) .. ' t ' .. line .. secret)
  redis.call('PUBLISH', channel, 't ' .. to_text(now) .. ' ' .. signature .. ' ' .. line)
end

-- Many processes are refused in the same moment, and would all announce the same: those are silent
-- that say nothing new. The record is always right.
local function throttle()
  local left, told = wait_left(), left_of(record.told)
  local is_longer = told == 0 or wait > told + MAX_CLOCK_ERROR
  local is_news = is_longer or is_mine or (kind == 'r' and record.kind == 'h')
  record.since, record.wait = now, math.max(left, math.min(wait, HOUR))
  record.told = is_news and record.wait or told
  if kind == 'r' then record.kind = 'r' end
  if is_mine then record.owner, record.renewed_at = '', 0 end
  save()
  -- A hold is not listed: it ends by itself, and soon.
  if record.kind == 'r' then list(listed, tenant, now + wait_left()) end
  if is_news then announce('w') end
  return DONE
end

local function finish()
  if wait_left() > 0 or (lease_left() > 0 and not is_mine) then return REFUSED end
  remove(key)
  unlist(listed, tenant)
  record.owner = ''
  announce('e')
  return DONE
end

local function take()
  if wait_left() > 0 or (lease_left() > 0 and not is_mine) then return REFUSED end
  local is_renewal = is_mine and lease_left() > 0
  record.owner, record.renewed_at = client_id, now
  save()
  if not is_renewal then announce('l') end
  return DONE
end

local function release()
  if not is_mine then return REFUSED end
  record.owner, record.renewed_at = '', 0
  save()
  announce('l')
  return DONE
end

local changes = {throttle = throttle, ['end'] = finish, take = take, release = release}
local change = changes[command]
if not change then return redis.error_reply('ERR unknown change') end
local answer = LATE
if now <= not_after then answer = change() end
is_mine = record.owner == client_id
return {answer, wait_left(), record.kind, lease_left(), is_mine and 1 or 0, now}
