-- What the scripts for records and for throttles begin with. Both are sent with it, as one text.
--
-- Each of them has as its first arguments: command, client id, lease in milliseconds.

local SECRET_LENGTH = {secret = 32, size = 15}
local MAX_CLOCK_ERROR, MINUTE, HOUR, DAY, YEAR = 1000, 60000, 3600000, 86400000, 31536000000
-- The answers to a command.
local REFUSED, DONE, LATE = 0, 1, 2

local command, client_id, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function to_text(number)
  return string.format('%.0f', number)
end

-- Return a whole number up to a maximum, or nothing.
local function to_number(text, maximum)
  local number = #text <= 15 and text:find('^%d+$') and tonumber(text)
  return number and number <= maximum and number
end

-- Return the fields of a hash, or nothing; and 1 if something else stands in its place. Nothing is
-- read before its size is known: a large value would block the server for all its clients.
local function read_hash(key, max_length, expected_count)
  local count = redis.pcall('HLEN', key)
  if type(count) == 'table' then
    if count.err:find('WRONGTYPE', 1, true) then return nil, 1 end
    return error(count)
  end
  if count == 0 then return nil, 0 end
  if count ~= expected_count then return nil, 1 end
  for name, maximum in pairs(max_length) do
    if redis.call('HSTRLEN', key, name) > maximum then return nil, 1 end
  end
  local flat, fields = redis.call('HGETALL', key), {}
  for place = 1, #flat, 2 do fields[flat[place]] = flat[place + 1] end
  for name in pairs(max_length) do
    if not fields[name] then return nil, 1 end
  end
  return fields, 0
end

local function remove(key)
  -- Large values are removed in the background, if the user may do that.
  local removed = redis.pcall('UNLINK', key)
  if type(removed) == 'table' then redis.call('DEL', key) end
end

-- Return the secret, or an empty text; and the size of the fleet.
local function read_secret(key)
  local fields = read_hash(key, SECRET_LENGTH, 2)
  if not fields then return '', 0 end
  return fields.secret, to_number(fields.size, YEAR) or 0
end
