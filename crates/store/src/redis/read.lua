-- Reads records of one slot, and the time at which they were read.
--
-- KEYS    the records, all with one hash tag.
-- ARGV[1] the time in milliseconds, for tests; empty: the server's own.
-- result  {time in milliseconds, then per key its bytes or false}. Who asks decides what has expired by then.
--
-- Why a script: the time and all the records must be of one moment and of one machine; two commands could be
-- answered either side of a write, or of a fail-over.
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local answer = redis.call('MGET', unpack(KEYS))
table.insert(answer, 1, now)
return answer
