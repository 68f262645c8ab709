-- Takes from rates of one slot: all of them, or none.
--
-- KEYS       the counters of 1 to 32 rates, all with one hash tag, each once.
-- ARGV[1]    big-endian numbers, 7 bytes each unless a width is given: the bounds of the time (2), then 23 bytes for
--            each rate: permits (3), what the request adds to the debt (microseconds, fraction (3)), and the debt of a
--            full burst (microseconds, fraction (3)). Fractions are permits-ths of a microsecond.
-- result     one text, which costs the server less than a list: the time within the bounds, what the clock says (8 bytes
--            each), then for each rate 1 if it passes or 0 (1), and its TAT (microseconds (8), fraction (3)) after the
--            request if it passes, before it if not. Times in microseconds since the epoch.
--
-- Why a script: deciding and writing must not be parted by another client's, and the time must be the server's.
--
-- It is not idempotent: a repeat takes again, so it may deny too much, never admit too much. It is the twin of
-- `meter::rate` in admission-domain, which explains the arithmetic and the 13 bytes of a state.
local call, read, pack = redis.call, struct.unpack, struct.pack
local time = call('TIME')
local told = time[1] * 1000000 + time[2]
local args, count = ARGV[1], #KEYS
local now, low, high, at = told, read('>I7I7', args)
if now < low then now = low end
if now > high then now = high end
local answer, passed, found = pack('>I8I8', now, told), true, nil
local states, lives = {}, {}
if count > 1 then found = call('MGET', unpack(KEYS)) end
for i = 1, count do
  local permits, more, more_part, full, full_part, held
  permits, more, more_part, full, full_part, at = read('>I3I7I3I7I3', args, at)
  if found then held = found[i] else held = call('GET', KEYS[1]) end
  local passes, tat, part = 1, now, 0
  if held then
    if #held ~= 13 then return redis.error_reply('CORRUPT a rate has an unknown format') end
    local of
    tat, part, of = read('>I7I3I3', held)
    if part >= of or of > 1000000 or tat > 9007199254740991 then
      return redis.error_reply('CORRUPT a rate has an unknown format')
    end
    -- A fraction of something else counts as a whole.
    if part > 0 and of ~= permits then tat, part = tat + 1, 0 end
    if tat < now then tat, part = now, 0 end
  end
  -- Who only asks writes nothing.
  if more > 0 or more_part > 0 then
    local next, next_part = tat + more, part + more_part
    if next_part >= permits then next, next_part = next + 1, next_part - permits end
    local debt = next - now
    if debt < full or debt == full and next_part <= full_part then
      tat, part = next, next_part
      states[i] = pack('>I7I3I3', tat, part, permits)
      -- A length, not a moment: `now` is kept between bounds. Until the debt is paid off, and an hour and some minutes
      -- longer: the server's clock may jump.
      lives[i] = string.format('%d', (debt - debt % 1000) / 1000 + 3900001)
    else
      passes, passed = 0, false
    end
  end
  answer = answer .. pack('>I1I8I3', passes, tat, part)
end
if passed then
  for i = 1, count do
    if states[i] then call('SET', KEYS[i], states[i], 'PX', lives[i]) end
  end
end
return answer
