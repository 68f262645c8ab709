-- The bytes of a record and the rule that decides a commit: the twin of `envelope.rs`. A script begins with this.
--
-- Numbers are exact up to 2^53. Moments of records are milliseconds since the epoch; the scripts' clock is in
-- microseconds. A change is five words of ARGV: the expected revision, 16 bytes (empty: absent); 'V' to write,
-- 'D' to delete or 'K' to keep; the end as 16 digits (zeros: never) or '+' and a length; when it was written
-- (empty: now); the value.

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

-- Decides: `found` are the bytes under the keys of the changes (false: none), whose words begin at ARGV[first].
-- Answers 'apply' and what each record remembers; 'repeated'; 'conflict'; or nothing, if some bytes are no record.
local function judge(found, first, operation, now)
  local verdict, remembered = 'apply', {}
  for i, bytes in ipairs(found) do
    local word = first + 5 * (i - 1)
    local current, past = revisions(bytes, now)
    if not current then return nil end
    remembered[i] = past
    if ARGV[word + 1] ~= 'K' then
      -- What was done stays done, whatever has happened to the records since.
      for n = 1, #past, 16 do
        if string.sub(past, n, n + 15) == operation then return 'repeated' end
      end
    end
    if current ~= ARGV[word] then verdict = 'conflict' end
  end
  return verdict, remembered
end

-- Writes what `judge` has let pass; `keys` are those of the changes. `grace`: how long in milliseconds the bytes of
-- an expired or deleted record stay. `most`: how many revisions a record remembers.
local function apply(keys, remembered, first, operation, now, grace, most)
  for i, key in ipairs(keys) do
    local word = first + 5 * (i - 1)
    local kind, ends, written, value = ARGV[word + 1], ARGV[word + 2], ARGV[word + 3], ARGV[word + 4]
    if kind ~= 'K' then
      written = exact(tonumber(written) or now)
      if kind == 'D' then
        ends = written
      elseif string.sub(ends, 1, 1) == '+' then
        ends = exact(written + tonumber(string.sub(ends, 2)))
      else
        ends = tonumber(ends)
      end
      local past = operation
      if remembered[i] ~= '' then past = string.sub(past .. remembered[i], 1, 16 * most) end
      local head = string.format('2%s%016d%016d%d', kind, ends, written, #past / 16)
      local bytes = head .. past .. value
      if ends == 0 then
        redis.call('SET', key, bytes)
      else
        -- A length, not a moment: the server's clock collects, but `now` is kept between bounds.
        redis.call('SET', key, bytes, 'PX', string.format('%d', math.max(ends - now, 0) + grace))
      end
    end
  end
end
