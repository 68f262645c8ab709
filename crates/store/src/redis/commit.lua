-- Changes records of one slot, all or none, if each is as expected.
--
-- KEYS    the records, all with one hash tag, each once.
-- ARGV[1] the time in milliseconds, for tests; empty: the server's own.
-- ARGV[2] the latest time that the caller has seen; empty: none.
-- ARGV[3] how far back in milliseconds the clock may step and be taken to stand still.
-- ARGV[4] how long in milliseconds the bytes of an expired or deleted record stay.
-- ARGV[5] how many revisions a record remembers.
-- ARGV[6] the operation id, 16 bytes: the revision that is written.
-- then, for each key, four: the expected revision (empty: absent), 'V' to write or 'D' to delete, the end as 16
--         digits of milliseconds (zeros: never), the value.
-- result  {1 if all is done, now or before, or 0 if nothing was, as a record was not as expected; the time}.
--
-- Why a script: comparing and writing must not be parted by another client's write, and WATCH would be two more
-- round trips on a connection of its own.
--
-- It is idempotent by operation id: all records of a commit get its id as revision, together, and remember the
-- ones before; so if one record knows the id, all of it was done. A server refuses the first write of a script
-- (memory, read-only, disk) or none, so no error leaves half of the changes.
--
-- The layout of the bytes and this rule are those of `stored.rs`, its twin.
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local latest = tonumber(ARGV[2])
if latest and now < latest and latest - now <= tonumber(ARGV[3]) then now = latest end
local grace, remembered, operation = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]

local as_expected, past = true, {}
for i, bytes in ipairs(redis.call('MGET', unpack(KEYS))) do
  local current = ''
  past[i] = ''
  if bytes then
    local format, kind, expires, count = string.match(string.sub(bytes, 1, 19), '^(1)([VD])(%d+)(%d)$')
    if not format then return redis.error_reply('CORRUPT a record has an unknown format') end
    past[i] = string.sub(bytes, 20, 19 + 16 * count)
    for n = 1, #past[i], 16 do
      if string.sub(past[i], n, n + 15) == operation then return {1, now} end
    end
    expires = tonumber(expires)
    if kind == 'V' and (expires == 0 or now < expires) then current = string.sub(past[i], 1, 16) end
  end
  if current ~= ARGV[3 + 4 * i] then as_expected = false end
end
if not as_expected then return {0, now} end

for i, key in ipairs(KEYS) do
  local kind, expires, value = ARGV[4 + 4 * i], ARGV[5 + 4 * i], ARGV[6 + 4 * i]
  if kind == 'D' then expires = string.format('%016.0f', math.max(now, 1)) end
  local revisions = string.sub(operation .. past[i], 1, 16 * remembered)
  local bytes = '1' .. kind .. expires .. (#revisions / 16) .. revisions .. value
  local ends = tonumber(expires)
  if ends == 0 then
    redis.call('SET', key, bytes)
  else
    -- A length, not a moment: the server's clock collects, but `now` may be the test's.
    redis.call('SET', key, bytes, 'PX', string.format('%.0f', math.max(ends - now, 0) + grace))
  end
end
return {1, now}
