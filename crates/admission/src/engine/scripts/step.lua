-- Does one step on one slot, or nothing of it: records with their expectations, meters, indexes. Begins with
-- `envelope.lua` of the store, which has `judge` and `apply` for the records.
--
-- KEYS       the records of the changes, then the counters of the meters, then the indexes; all with one hash tag,
--            within each of the three groups each once.
-- ARGV[1]    big-endian numbers, one word as each costs the server more than reading it here: the bounds of the time in
--            microseconds (7 bytes each); how long in milliseconds the bytes of an expired or deleted record stay (7);
--            how many revisions a record remembers (1); how many changes, counters, meters, operations on indexes there
--            are (2 each); the operation id (16).
--            then the meters, in their order: the kind (1 byte), which counter (2, from 1 on), then numbers of 7 bytes
--            if no width is given. Kinds:
--              1 rate               permits (3), what the request adds to the debt (microseconds, fraction (3)), the
--                                   debt of a full burst (microseconds, fraction (3))
--              2 take, calendar     maximum, amount, the beginnings of four windows that follow each other
--              3 take, rolling      maximum, amount, length
--              4 adjust, calendar   delta (8, signed), beginning and end of the window
--              5 adjust, rolling    delta (8, signed), length, when it was taken
--            then the operations on indexes, in their order: which (1: 1 add, 2 remove, 3 remove all with lower
--            scores, 4 the whole index ends, 5 add two), the index (2, from 1 on), whether the time counts from now
--            (1), the time in milliseconds (8, signed); of the second of two, again the latter two.
-- then, for each change, the two words of `envelope.lua`; then the members that operations on indexes add or remove.
-- result     one text, as a list costs the server as much as two writes: what became of it (1), the time within the
--            bounds and what the clock says (8 each, both in microseconds), then ...
--              0 done, 1 done by an earlier call with this operation, 3 a meter denies: four numbers for each meter
--                rate: 1 if it passes or 0 (1); TAT (microseconds, fraction); 0 (8 each, signed)
--                cap: 1 or 0 (1); what is used; when nothing will be used; when it would pass (-1: not or never)
--              4 now lies outside of a meter's windows: nothing
--            or, if a record is not as expected, a list: the time within the bounds, what the clock says, the bytes of
--            each record or false.
--
-- Why a script: expectations, counters and writes must not be parted by another client's, and the time must be the
-- server's.
--
-- It is idempotent by operation id if it changes a record: see `commit.lua`. Without one a repeat takes again. It is
-- the twin of `step::apply` and of `meter` in admission-domain, which explain the rules and the bytes of a state.
local call, read, pack = redis.call, struct.unpack, struct.pack
local MOST = 9007199254740991
local CORRUPT = 'CORRUPT the state of a limit has an unknown format'

local format, blob = string.format, ARGV[1]
local low, high, grace, memory, changes, counters, meters, indexes, operation, at =
  read('>I7I7I7I1I2I2I2I2c16', blob)
local time = call('TIME')
local told = time[1] * 1000000 + time[2]
local now = told
if now < low then now = low end
if now > high then now = high end
local ms = (now - now % 1000) / 1000

-- Everything that is read, at once.
local found, remembered, repeated = {}, nil, false
if changes + counters > 0 then found = call('MGET', unpack(KEYS, 1, changes + counters)) end
if changes > 0 then
  local verdict
  verdict, remembered = judge(found, changes, 2, operation, ms)
  if not verdict then return redis.error_reply('CORRUPT a record has an unknown format') end
  if verdict == 'conflict' then return { now, told, unpack(found, 1, changes) } end
  repeated = verdict == 'repeated'
end

-- By counter: the state that later meters see, and, once something is to be written, for how many milliseconds it is
-- kept, as text: a length, not a moment, as the server's clock collects, but `now` is kept between bounds.
local state, lives = {}, {}
for i = 1, counters do state[i] = found[changes + i] end
-- As long as what is there.
local SAME = 'KEEPTTL'

-- Takes `amount` (if not negative) or adjusts by `delta`, in the calendar from `start` to `stop`, or within `length`;
-- `at` is when it was taken. Answers whether it passes, what is used, when nothing will be, when it would pass; nothing
-- if the state is none. One function with all that few steps need: each function costs a step that it is made for.
local function cap(counter, start, stop, length, max, amount, delta, at)
  local bytes, times, amounts = state[counter], {}, {}
  if bytes then
    local count = #bytes / 13
    if count < 1 or count > 1024 or count % 1 ~= 0 then return nil end
    local place, last = 1, -1
    for i = 1, count do
      local t, much
      t, much, place = read('>I6I7', bytes, place)
      if t <= last or much < 1 or much > MOST then return nil end
      times[i], amounts[i], last = t, much, t
    end
  end
  -- What counts: from here to there.
  local from, to = start, stop
  if length then from, to = ms - length + 1, math.huge end

  local function cut(kept)
    for i = #times, kept + 1, -1 do times[i], amounts[i] = nil, nil end
  end
  local function used()
    local sum = 0
    for i = 1, #times do
      if times[i] >= from and times[i] < to then sum = math.min(sum + amounts[i], MOST) end
    end
    return sum
  end
  local function add(t, much)
    local i = #times
    while i > 0 and times[i] > t do i = i - 1 end
    if i > 0 and times[i] == t then
      amounts[i] = math.min(amounts[i] + much, MOST)
    else
      table.insert(times, i + 1, t)
      table.insert(amounts, i + 1, much)
    end
  end
  -- Gives back at this time what is there, and answers what could not be given back.
  local function give_back(t, much)
    local i = #times
    while i > 0 and times[i] > t do i = i - 1 end
    if i == 0 or times[i] ~= t then return much end
    -- An entry that has reached the largest number stands for more than it says: it stays.
    if amounts[i] == MOST then return 0 end
    local back = math.min(much, amounts[i])
    amounts[i] = amounts[i] - back
    if amounts[i] == 0 then
      table.remove(times, i)
      table.remove(amounts, i)
    end
    return much - back
  end
  local function round_up(t, grid)
    t = t + grid - 1
    return t - t % grid
  end
  -- The grids on which entries are merged when there are too many: each twice as coarse as the one before.
  local grid = length and math.max(math.floor((length + 999) / 1000), 1)
  -- Brings what is kept back to its bounds.
  local function bound()
    if not length then
      -- Forgets the oldest windows, never this one.
      while #times > 8 do
        local oldest = times[1] == start and 2 or 1
        table.remove(times, oldest)
        table.remove(amounts, oldest)
      end
      return
    end
    local mesh = grid
    for _ = 1, 24 do
      if #times <= 1024 then return end
      local merged = 0
      for i = 1, #times do
        -- Rounded up: it counts a little longer, never shorter.
        local t, much = round_up(times[i], mesh), amounts[i]
        if merged > 0 and times[merged] == t then
          amounts[merged] = math.min(amounts[merged] + much, MOST)
        else
          merged = merged + 1
          times[merged], amounts[merged] = t, much
        end
      end
      cut(merged)
      mesh = mesh * 2
    end
  end
  local function keep()
    local parts, last = {}, times[#times]
    for i = 1, #times do parts[i] = pack('>I6I7', times[i], amounts[i]) end
    local next = last and table.concat(parts) or false
    if next ~= bytes then
      -- Four days longer than it means something.
      local ends = last and math.max(stop or 0, last + (length or stop - start)) + 345600000 or 0
      lives[counter] = format('%d', math.max(ends - ms, 1))
      state[counter] = next
    end
  end
  local function reset(sum)
    if not length then return sum > 0 and stop or -1 end
    local last = times[#times]
    return last and last + length or -1
  end

  if length then
    local kept = 0
    for i = 1, #times do
      if times[i] >= from then
        kept = kept + 1
        times[kept], amounts[kept] = times[i], amounts[i]
      end
    end
    cut(kept)
  end
  if delta then
    -- What has left the window has left it: nothing to correct.
    if not length or at >= from then
      if delta > 0 then add(at, delta) end
      if delta < 0 then
        local rest, mesh = give_back(at, -delta), grid
        -- It may have been merged with others.
        for _ = 1, length and 24 or 0 do
          if rest == 0 then break end
          local t = round_up(at, mesh)
          if t ~= at then rest = give_back(t, rest) end
          mesh = mesh * 2
        end
      end
      bound()
    end
    local sum = used()
    if delta ~= 0 or not length then keep() end
    return 1, sum, reset(sum), -1
  end
  local sum = used()
  if amount == 0 then return 1, sum, reset(sum), -1 end
  if amount > max - sum then
    local retry = -1
    if amount <= max then
      retry = stop or reset(sum)
      local rest = sum
      for i = 1, length and #times or 0 do
        rest = rest - amounts[i]
        if amount <= max - rest then
          retry = times[i] + length
          break
        end
      end
    end
    return 0, sum, reset(sum), retry
  end
  add(start or ms, amount)
  bound()
  keep()
  return 1, sum + amount, reset(sum + amount), -1
end

-- Takes `amount` from the calendar's window from `start` to `stop`, as most steps do, and answers as `cap` does; one that
-- looks back, behind what is written, is `cap`'s.
local function calendar(counter, start, stop, max, amount)
  local bytes, count, last, used = state[counter], 0, -1, 0
  if bytes then
    local place = 1
    count = #bytes / 13
    if count < 1 or count > 8 or count % 1 ~= 0 then return cap(counter, start, stop, nil, max, amount) end
    for _ = 1, count do
      local t
      t, used, place = read('>I6I7', bytes, place)
      if t <= last or used < 1 or used > MOST then return nil end
      last = t
    end
    if last > start then return cap(counter, start, stop, nil, max, amount) end
    if last < start then used = 0 end
  end
  local resets = used > 0 and stop or -1
  if amount == 0 then return 1, used, resets, -1 end
  if amount > max - used then return 0, used, resets, amount <= max and stop or -1 end
  local entry = pack('>I6I7', start, used + amount)
  if not bytes then
    state[counter] = entry
  elseif last == start then
    state[counter] = count == 1 and entry or string.sub(bytes, 1, -14) .. entry
    -- Whoever took first in this window said how long.
    lives[counter] = lives[counter] or SAME
    return 1, used + amount, stop, -1
  else
    -- Forgets the oldest window.
    state[counter] = (count == 8 and string.sub(bytes, 14) or bytes) .. entry
  end
  lives[counter] = format('%d', math.max(stop + 345600000 - ms, 1))
  return 1, used + amount, stop, -1
end

-- What is answered, with room for three meters.
local answer, passed = { 0, now, told, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }, true
for i = 1, meters do
  local kind, counter, pass, one, two, three = string.byte(blob, at), nil, nil, nil, nil, nil
  if kind == 1 then
    local permits, more, more_part, full, full_part
    kind, counter, permits, more, more_part, full, full_part, at = read('>I1I2I3I7I3I7I3', blob, at)
    if repeated then more, more_part = 0, 0 end
    local held, tat, part = state[counter], now, 0
    if held then
      if #held ~= 13 then return redis.error_reply(CORRUPT) end
      local of
      tat, part, of = read('>I7I3I3', held)
      if part >= of or of > 1000000 or tat > MOST then return redis.error_reply(CORRUPT) end
      -- A fraction of something else counts as a whole.
      if part > 0 and of ~= permits then tat, part = tat + 1, 0 end
      if tat < now then tat, part = now, 0 end
    end
    pass = 1
    if more > 0 or more_part > 0 then
      local next, next_part = tat + more, part + more_part
      if next_part >= permits then next, next_part = next + 1, next_part - permits end
      local debt = next - now
      if debt < full or debt == full and next_part <= full_part then
        tat, part = next, next_part
        state[counter] = pack('>I7I3I3', tat, part, permits)
        -- An hour and some minutes longer than it means something: the server's clock may jump. A debt of less than
        -- a minute counts as one, for which no number need be made a text.
        lives[counter] = debt <= 60000000 and '3960001' or format('%d', (debt - debt % 1000) / 1000 + 3900001)
      else
        pass = 0
      end
    end
    one, two, three = tat, part, 0
  elseif kind == 2 then
    local max, amount, a, b, c, d
    kind, counter, max, amount, a, b, c, d, at = read('>I1I2I7I7I7I7I7I7', blob, at)
    if ms < a or ms >= d then return pack('>I1I8I8', 4, now, told) end
    if repeated then amount = 0 end
    local start, stop = b, c
    if ms < b then start, stop = a, b elseif ms >= c then start, stop = c, d end
    pass, one, two, three = calendar(counter, start, stop, max, amount)
  elseif kind == 3 then
    local max, amount, length
    kind, counter, max, amount, length, at = read('>I1I2I7I7I7', blob, at)
    pass, one, two, three = cap(counter, nil, nil, length, max, repeated and 0 or amount)
  else
    local delta, first, second
    kind, counter, delta, first, second, at = read('>I1I2i8I7I7', blob, at)
    if repeated then delta = 0 end
    if kind == 4 then
      pass, one, two, three = cap(counter, first, second, nil, 0, 0, delta, first)
    else
      pass, one, two, three = cap(counter, nil, nil, first, 0, 0, delta, second)
    end
  end
  if not pass then return redis.error_reply(CORRUPT) end
  if pass == 0 then passed = false end
  local n = 4 * i
  answer[n], answer[n + 1], answer[n + 2], answer[n + 3] = pass, one, two, three
end
answer[1] = repeated and 1 or not passed and 3 or 0
answer = pack('>I1I8I8' .. string.rep('I1i8i8i8', meters), unpack(answer, 1, 3 + 4 * meters))
if repeated or not passed then return answer end

if changes > 0 then apply(KEYS, remembered, 2, operation, ms, grace, memory) end
for i = 1, counters do
  local key, length = KEYS[changes + i], lives[i]
  if length and not state[i] then
    call('DEL', key)
  elseif length == SAME then
    call('SET', key, state[i], SAME)
  elseif length then
    call('SET', key, state[i], 'PX', length)
  end
end
local member, first = 2 + 2 * changes, changes + counters
for _ = 1, indexes do
  local what, index, relative, moment
  what, index, relative, moment, at = read('>I1I2I1i8', blob, at)
  local key = KEYS[first + index]
  if relative == 1 then moment = moment + ms end
  if what == 1 then
    call('ZADD', key, format('%d', moment), ARGV[member])
    member = member + 1
  elseif what == 2 then
    call('ZREM', key, ARGV[member])
    member = member + 1
  elseif what == 3 then
    call('ZREMRANGEBYSCORE', key, '-inf', format('(%d', moment))
  elseif what == 4 then
    call('PEXPIRE', key, format('%d', math.max(moment - ms, 0) + grace))
  else
    local second
    relative, second, at = read('>I1i8', blob, at)
    if relative == 1 then second = second + ms end
    call('ZADD', key, format('%d', moment), ARGV[member], format('%d', second), ARGV[member + 1])
    member = member + 2
  end
end
return answer
