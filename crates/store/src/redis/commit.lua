-- Changes records of one slot, all or none, if each is as expected. Begins with `envelope.lua`.
--
-- KEYS       the records, all with one hash tag, each once.
-- ARGV[1, 2] the bounds of the time, in microseconds.
-- ARGV[3]    how long in milliseconds the bytes of an expired or deleted record stay.
-- ARGV[4]    how many revisions a record remembers.
-- ARGV[5]    the operation id, 16 bytes: the revision that is written.
-- then, for each key, the two words of a change.
-- result     {1 if all is done, now or before, or 0 if nothing was, as a record was not as expected; the time within
--            the bounds; what the clock says}, the times in microseconds.
--
-- Why a script: comparing and writing must not be parted by another client's write, and WATCH would be two more
-- round trips on a connection of its own.
--
-- It is idempotent by operation id: all records that a commit writes get its id as revision, together, and remember
-- the ones before; so if one of them knows the id, all of it was done. A server refuses the first write of a script
-- (memory, read-only, disk) or none, so no error leaves half of the changes.
local now, told = moment(ARGV[1], ARGV[2])
local ms = math.floor(now / 1000)
local verdict, remembered = judge(redis.call('MGET', unpack(KEYS)), #KEYS, 6, ARGV[5], ms)
if not verdict then return redis.error_reply('CORRUPT a record has an unknown format') end
if verdict == 'conflict' then return {0, now, told} end
if verdict == 'apply' then
  apply(KEYS, remembered, 6, ARGV[5], ms, tonumber(ARGV[3]), tonumber(ARGV[4]))
end
return {1, now, told}
