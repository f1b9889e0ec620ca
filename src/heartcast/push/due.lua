-- A page of what waits for a time, by (wall ms, id).
--
-- KEYS: {hc:N}:due, {hc:N}:rows. ARGV: wall ms and id after which the page begins, the wall ms
-- up to which it goes, pushes a page. Answers with their rows. Ids of one ms sort as text.
local start = redis.call('ZCOUNT', KEYS[1], '-inf', '(' .. ARGV[1])
local ties = redis.call('ZCOUNT', KEYS[1], ARGV[1], ARGV[1])
local score = redis.call('ZSCORE', KEYS[1], ARGV[2])
if score and tonumber(score) == tonumber(ARGV[1]) then
    start = redis.call('ZRANK', KEYS[1], ARGV[2]) + 1
elseif ties > 0 then
    -- The page before ended with one that is gone meanwhile, or between two milliseconds.
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[1], ARGV[1])) do
        if id <= ARGV[2] then
            start = start + 1
        end
    end
end
local last = redis.call('ZCOUNT', KEYS[1], '-inf', ARGV[3])
local ids = redis.call('ZRANGE', KEYS[1], start, math.min(start + ARGV[4], last) - 1)
if start >= last or #ids == 0 then
    return {}
end
return redis.call('HMGET', KEYS[2], unpack(ids))
