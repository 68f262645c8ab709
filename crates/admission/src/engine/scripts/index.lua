-- Reads a part of an index, and the time at which it was read.
--
-- KEYS[1]    the index.
-- ARGV[1]    the bounds of the time in microseconds, big-endian numbers of 7 bytes each.
-- ARGV[2, 3] the lowest and the highest score.
-- ARGV[4]    how many members at most.
-- ARGV[5]    1 if those with the highest scores come first, else 0.
-- result     {the time within the bounds, what the clock says, then each member and its score as text}.
--
-- Why a script: the time and the members must be of one moment and of one machine.
local time = redis.call('TIME')
local told = time[1] * 1000000 + time[2]
local low, high = struct.unpack('>I7I7', ARGV[1])
local members
if ARGV[5] == '1' then
  members = redis.call('ZREVRANGEBYSCORE', KEYS[1], ARGV[3], ARGV[2], 'WITHSCORES', 'LIMIT', 0, ARGV[4])
else
  members = redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[2], ARGV[3], 'WITHSCORES', 'LIMIT', 0, ARGV[4])
end
local answer = { math.min(math.max(told, low), high), told }
for i = 1, #members do answer[i + 2] = members[i] end
return answer
