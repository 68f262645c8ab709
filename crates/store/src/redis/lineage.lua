-- Reads, or replaces, the note of whose past a master continues.
--
-- KEYS[1]    the note.
-- ARGV[1]    '' to read only, else the note that was read before, or '-' if there was none.
-- ARGV[2]    the note to put in its place if it is still that one.
-- result     {the note that is there now or false, what the clock says in microseconds}.
--
-- Why a script: several processes find a new master at the same moment, and the first one's time must stand.
local time = redis.call('TIME')
local told = time[1] * 1000000 + time[2]
local found = redis.call('MGET', KEYS[1])[1]
if ARGV[1] ~= '' and ARGV[1] == (found or '-') then
  redis.call('SET', KEYS[1], ARGV[2])
  found = ARGV[2]
end
return {found, told}
