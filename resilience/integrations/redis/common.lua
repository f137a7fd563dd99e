-- What the scripts begin with. Each is sent with it, as one text.

local SECRET_LENGTH = {secret = 32, size = 15}
local MAX_CLOCK_ERROR, MINUTE, HOUR, DAY, YEAR = 1000, 60000, 3600000, 86400000, 31536000000
-- A sorted set with more members is none of these scripts'. To drop them would block the server.
local MOST_MEMBERS = 50000
-- The answers to a command.
local REFUSED, DONE, LATE = 0, 1, 2

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
    redis.call('HLEN', key)  -- fails with the error of the server
  end
  if count == 0 then return nil, 0 end
  if count ~= expected_count then return nil, 1 end
  local names = {}
  for name, maximum in pairs(max_length) do
    if redis.call('HSTRLEN', key, name) > maximum then return nil, 1 end
    names[#names + 1] = name
  end
  -- By their names: one that is not expected may be of any size.
  local values, fields = redis.call('HMGET', key, unpack(names)), {}
  for place, name in ipairs(names) do
    if not values[place] then return nil, 1 end
    fields[name] = values[place]
  end
  return fields, 0
end

local function remove(key)
  -- Large values are removed in the background, if the user may do that.
  local removed = redis.pcall('UNLINK', key)
  if type(removed) == 'table' then redis.call('DEL', key) end
end

-- Remove the members of a sorted set with scores that are too low or too high, and whatever else
-- stands in its place.
local function drop_members(key, low, high)
  local count = redis.pcall('ZCARD', key)
  local is_other = type(count) == 'table' and count.err:find('WRONGTYPE', 1, true)
  if is_other or (type(count) == 'number' and count > MOST_MEMBERS) then remove(key) end
  redis.pcall('ZREMRANGEBYSCORE', key, '-inf', to_text(low))
  redis.pcall('ZREMRANGEBYSCORE', key, to_text(high), '+inf')
end

-- Return the secret, or an empty text; and the size of the fleet.
local function read_secret(key)
  local fields = read_hash(key, SECRET_LENGTH, 2)
  if not fields then return '', 0 end
  return fields.secret, to_number(fields.size, YEAR) or 0
end
