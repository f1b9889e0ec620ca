-- A page of what was written after a number, in that order.
--
-- KEYS as write.lua. ARGV: the number, notes a page, 1 when the reader compares everything that
-- it finds with what it knows. Answers with 1 and nothing when the reader must do that, because
-- it has not heard of something that was taken away; else with 0 and key, number and note ("":
-- it was taken away) of each.
local records, order, purged = KEYS[2], KEYS[3], KEYS[5]
if ARGV[3] == '0' and tonumber(ARGV[1]) < tonumber(redis.call('GET', purged) or '0') then
    return {1, {}}
end
local rows = {}
local found = redis.call('ZRANGEBYSCORE', order, '(' .. ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
for at = 1, #found, 2 do
    rows[#rows + 1] = found[at]
    rows[#rows + 1] = found[at + 1]
    rows[#rows + 1] = redis.call('HGET', records, found[at]) or ''
end
return {0, rows}
