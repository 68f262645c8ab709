-- Takes from rates of one slot: all of them, or none.
--
-- KEYS       the counters of 1 to 32 rates, all with one hash tag, each once.
-- ARGV[1]    big-endian numbers, 7 bytes each unless a width is given: the bounds of the time (2), then 23 bytes for
--            each rate: permits (3), what the request adds to the debt (microseconds, fraction (3)), and the debt of a
--            full burst (microseconds, fraction (3)). Fractions are permits-ths of a microsecond.
-- result     {the time within the bounds, what the clock says, then for each rate three numbers: 1 if it passes or 0,
--            and its TAT (microseconds, fraction) after the request if it passes, before it if not}. Times in
--            microseconds since the epoch.
--
-- Why a script: deciding and writing must not be parted by another client's, and the time must be the server's.
--
-- It is not idempotent: a repeat takes again, so it may deny too much, never admit too much. It is the twin of
-- `meter::rate` in admission-domain, which explains the arithmetic and the 13 bytes of a state.
local call, read = redis.call, struct.unpack
local time = call('TIME')
local told = time[1] * 1000000 + time[2]
local args, count = ARGV[1], #KEYS
local now, low, high, at = told, read('>I7I7', args)
if now < low then now = low end
if now > high then now = high end
local answer, passed, found = {now, told}, true, nil
if count > 1 then found = call('MGET', unpack(KEYS)) end
for i = 1, count do
  local permits, more, more_part, full, full_part, held
  permits, more, more_part, full, full_part, at = read('>I3I7I3I7I3', args, at)
  if found then held = found[i] else held = call('GET', KEYS[1]) end
  local tat, part = now, 0
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
  local next, next_part = tat + more, part + more_part
  if next_part >= permits then next, next_part = next + 1, next_part - permits end
  local debt, n = next - now, 3 * i
  if (debt < full or debt == full and next_part <= full_part) or (more == 0 and more_part == 0) then
    answer[n], answer[n + 1], answer[n + 2] = 1, next, next_part
  else
    passed = false
    answer[n], answer[n + 1], answer[n + 2] = 0, tat, part
  end
end
if passed then
  at = 15
  for i = 1, count do
    local permits, more, more_part = read('>I3I7I3', args, at)
    at = at + 23
    -- Who only asks writes nothing.
    if more > 0 or more_part > 0 then
      local tat = answer[3 * i + 1]
      local left = tat - now
      -- A length, not a moment: `now` is kept between bounds. Until the debt is paid off, and an hour and some minutes
      -- longer: the server's clock may jump.
      local state = struct.pack('>I7I3I3', tat, answer[3 * i + 2], permits)
      call('SET', KEYS[i], state, 'PX', string.format('%d', (left - left % 1000) / 1000 + 3900001))
    end
  end
end
return answer
