-- Forgets counters.
--
-- KEYS    the counters, rates and caps, of one slot.
-- ARGV    none.
-- result  how many there were.
--
-- Why a script: it takes the way of every other write (checks of the store, replicas). It may be repeated.
local gone = 0
for i = 1, #KEYS do gone = gone + redis.call('DEL', KEYS[i]) end
return gone
