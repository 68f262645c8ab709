-- Reads records of one slot, and the time at which they were read. Begins with `envelope.lua`.
--
-- KEYS       the records, all with one hash tag.
-- ARGV[1, 2] the bounds of the time, in microseconds.
-- result     {the time within the bounds, what the clock says, then per key its bytes or false}, the times in
--            microseconds. Who asks decides what has expired by then.
--
-- Why a script: the time and all the records must be of one moment and of one machine; two commands could be
-- answered either side of a write, or of a fail-over.
local now, told = moment(ARGV[1], ARGV[2])
local answer = redis.call('MGET', unpack(KEYS))
table.insert(answer, 1, told)
table.insert(answer, 1, now)
return answer
