-- The bytes of a record and the rule that decides a commit: the twin of `envelope.rs`. A script begins with this.
--
-- Numbers are exact up to 2^53. Moments of records are milliseconds since the epoch; the scripts' clock is in
-- microseconds. A change is two words of ARGV, for each word costs the server more than reading it here. The first:
-- 'V' to write, 'D' to delete or 'K' to keep; how it ends (1 byte: 0 never, 1 at a time, 2 a length after it was
-- written) and that number (7, big-endian); when it was written (7; 0: now); the expected revision (16 bytes, or none:
-- absent). The second is the value.

local LAST_MOMENT = 9007199254740991

-- The time in microseconds, kept between two bounds, and what the server's clock says itself.
local function moment(not_before, not_after)
  local time = redis.call('TIME')
  local told = time[1] * 1000000 + time[2]
  return math.min(math.max(told, tonumber(not_before)), tonumber(not_after)), told
end

local function exact(ms)
  return math.min(math.max(ms, 1), LAST_MOMENT)
end

-- The revision of the record in these bytes at `now`, empty if there is none, and all that it remembers, the newest
-- first; nothing if the bytes are no record.
local function revisions(bytes, now)
  if not bytes then return '', '' end
  local kind, digits = string.match(string.sub(bytes, 1, 35), '^2([VD])(%d+)$')
  if not kind or #digits ~= 33 then return nil end
  local past = string.sub(bytes, 36, 35 + 16 * string.sub(digits, 33))
  local expires = tonumber(string.sub(digits, 1, 16))
  if kind == 'V' and (expires == 0 or now < expires) then return string.sub(past, 1, 16), past end
  return '', past
end

-- Decides: `found` begins with the bytes under the keys of so many changes (false: none), whose words begin at
-- ARGV[first]. Answers 'apply' and what each record remembers; 'repeated'; 'conflict'; or nothing, if some bytes are no
-- record.
local function judge(found, changes, first, operation, now)
  local verdict, remembered = 'apply', {}
  for i = 1, changes do
    local what = ARGV[first + 2 * (i - 1)]
    local current, past = revisions(found[i], now)
    if not current then return nil end
    remembered[i] = past
    if past ~= '' and string.byte(what) ~= 75 then
      -- What was done stays done, whatever has happened to the records since. One that is kept was not written.
      for n = 1, #past, 16 do
        if string.sub(past, n, n + 15) == operation then return 'repeated' end
      end
    end
    if current ~= string.sub(what, 17) then verdict = 'conflict' end
  end
  return verdict, remembered
end

-- A moment as the bytes of a record have it.
local function digits(ms)
  if ms == 0 then return '0000000000000000' end
  return string.format('%016d', ms)
end

-- Writes what `judge` has let pass; `keys` begins with those of the changes. `grace`: how long in milliseconds the bytes
-- of an expired or deleted record stay. `most`: how many revisions a record remembers.
local function apply(keys, remembered, first, operation, now, grace, most)
  local moment, stamp = exact(now), nil
  for i = 1, #remembered do
    local word = first + 2 * (i - 1)
    local kind, how, ends, written = struct.unpack('>c1I1I7I7', ARGV[word])
    if kind ~= 'K' then
      if written == 0 then written = moment end
      if kind == 'D' then
        ends = written
      elseif how == 2 then
        ends = exact(written + ends)
      end
      if written == moment then stamp = stamp or digits(moment) end
      local past = operation
      if remembered[i] ~= '' then past = string.sub(past .. remembered[i], 1, 16 * most) end
      -- As a digit.
      local count = string.char(48 + #past / 16)
      local bytes = '2' .. kind .. digits(ends) .. (written == moment and stamp or digits(written)) .. count .. past
        .. ARGV[word + 1]
      if ends == 0 then
        redis.call('SET', keys[i], bytes)
      else
        -- A length, not a moment: the server's clock collects, but `now` is kept between bounds.
        redis.call('SET', keys[i], bytes, 'PX', string.format('%d', math.max(ends - now, 0) + grace))
      end
    end
  end
end
