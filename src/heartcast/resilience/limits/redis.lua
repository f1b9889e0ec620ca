-- Several limits on one key of a user, all or nothing, in one step.
--
-- KEYS[i]                 state of the i-th limit; all in one hash slot
-- ARGV[1]                 cost, a whole number >= 1; 1 when absent
-- ARGV[2]                 admit (when absent) | decide | peek | refund
-- ARGV[3]                 now in microseconds; the server's time when absent
-- ARGV[4]                 milliseconds that keys outlive their use; 1000 when absent
--
-- RULES stands before this text, made from the limits: {kind (bucket, log, window), flow
-- or limit, weight or window, capacity} for each. A limiter's limits never change, and an
-- argument costs the client more than a number here: the usual call has none.
--
-- Answers {wait, index of the limit that decides, left, reset}. Everything is read and
-- checked before anything is written. Numbers stay below 2^53, where doubles are exact.

local now = ARGV[3] and tonumber(ARGV[3])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
-- A server clock that steps back a little must still find the keys: they stay a second longer.
local cost, mode, margin = tonumber(ARGV[1] or 1), ARGV[2] or 'admit', tonumber(ARGV[4] or 1000)

local function ceil_div(a, b)
  local rest = a % b
  return (a - rest) / b + (rest > 0 and 1 or 0)
end

-- One bucket is what most limits are. Counted here it needs none of the functions below,
-- which Lua would make anew for every call.
if #KEYS == 1 and mode == 'admit' and RULES[1][1] == 'bucket' then
  local flow, weight, capacity = RULES[1][2], RULES[1][3], RULES[1][4]
  local debt, at = 0, now
  local raw = redis.call('GET', KEYS[1])
  if raw then
    local a, b = string.match(raw, '^(%d+):(%d+)$')
    if not a then
      return redis.error_reply('HCSTATE no limit was kept at ' .. KEYS[1])
    end
    debt, at = tonumber(a), tonumber(b)
    if now > at then
      if now - at >= ceil_div(debt, flow) then debt = 0 else debt = debt - (now - at) * flow end
      at = now
    end
  end
  debt = debt + cost * weight
  local excess = debt - capacity * weight
  if excess > 0 then
    return { ceil_div(excess, flow), 1, 0, 0 }
  end
  local ttl = ceil_div(ceil_div(debt, flow), 1000) + margin
  redis.call('SET', KEYS[1], string.format('%.0f:%.0f', debt, at), 'PX', string.format('%.0f', ttl))
  return { 0, 0, 0, 0 }
end

local function text(...)
  local parts = {}
  for i = 1, select('#', ...) do
    parts[i] = string.format('%.0f', (select(i, ...)))
  end
  return table.concat(parts, ':')
end

local function numbers(key, pattern)
  local raw = redis.call('GET', key)
  if not raw then
    return nil
  end
  local a, b, c = string.match(raw, pattern)
  if not a then
    error({ err = 'HCSTATE no limit was kept at ' .. key })
  end
  return tonumber(a), tonumber(b), tonumber(c)
end

local bucket, log, window = {}, {}, {}

function bucket.read(key, flow, weight, capacity)
  local debt, at = numbers(key, '^(%d+):(%d+)$')
  if not debt then
    return { debt = 0, at = now, absent = true }
  end
  if now > at then
    -- Compared before it is multiplied: a long gap would leave the exact range.
    if now - at >= ceil_div(debt, flow) then debt = 0 else debt = debt - (now - at) * flow end
    at = now
  end
  return { debt = debt, at = at }
end

function bucket.wait(state, flow, weight, capacity)
  local excess = state.debt + cost * weight - capacity * weight
  return excess > 0 and ceil_div(excess, flow) or 0
end

function bucket.write(key, state, flow, weight, capacity, sign)
  if sign < 0 and state.absent then
    return
  end
  state.debt = math.max(0, state.debt + sign * cost * weight)
  local ttl = ceil_div(ceil_div(state.debt, flow), 1000) + margin
  redis.call('SET', key, text(state.debt, state.at), 'PX', text(ttl))
end

function bucket.left(key, state, flow, weight, capacity)
  return math.floor((capacity * weight - state.debt) / weight), ceil_div(state.debt, flow)
end

function log.read(key, limit, span)
  local last = redis.call('LINDEX', key, -1)
  return { length = redis.call('LLEN', key), now = last and math.max(now, tonumber(last)) or now }
end

function log.wait(state, limit, span, capacity, key)
  local nth = limit - cost + 1
  if state.length < nth then
    return 0
  end
  return math.max(0, redis.call('LINDEX', key, text(-nth)) + span - state.now)
end

function log.write(key, state, limit, span, capacity, sign)
  if sign < 0 then
    for _ = 1, math.min(cost, state.length) do
      redis.call('RPOP', key)
    end
    state.length = math.max(0, state.length - cost)
    return
  end
  for _ = 1, cost do
    redis.call('RPUSH', key, text(state.now))
  end
  redis.call('LTRIM', key, text(-limit), -1)
  state.length = math.min(limit, state.length + cost)
  redis.call('PEXPIRE', key, text(ceil_div(span, 1000) + margin))
end

function log.left(key, state, limit, span)
  local used, last = 0, nil
  for _, stamp in ipairs(redis.call('LRANGE', key, 0, -1)) do
    last = tonumber(stamp)
    if last + span > state.now then
      used = used + 1
    end
  end
  return limit - used, last and math.max(0, last + span - state.now) or 0
end

function window.read(key, limit, span)
  local index, into = math.floor(now / span), now % span
  local at, before, count = numbers(key, '^(%d+):(%d+):(%d+)$')
  if not at then
    return { index = index, before = 0, count = 0, into = into }
  end
  if at > index then
    return { index = at, before = before, count = count, into = 0 }
  end
  if at == index then
    return { index = at, before = before, count = count, into = into }
  end
  return { index = index, before = at + 1 == index and count or 0, count = 0, into = into }
end

function window.wait(state, limit, span)
  local room = limit - cost
  if state.before * (span - state.into) + state.count * span <= room * span then
    return 0
  end
  if state.count <= room then
    local spare = (room - state.count) * span
    return math.max(0, span - (spare - spare % state.before) / state.before - state.into)
  end
  local spare = room * span
  return span - state.into + math.max(0, span - (spare - spare % state.count) / state.count)
end

function window.write(key, state, limit, span, capacity, sign)
  state.count = math.max(0, state.count + sign * cost)
  local ttl = ceil_div(2 * span, 1000) + margin
  redis.call('SET', key, text(state.index, state.before, state.count), 'PX', text(ttl))
end

function window.left(key, state, limit, span)
  local left = limit - state.count - ceil_div(state.before * (span - state.into), span)
  local reset = 0
  if state.count > 0 then
    reset = 2 * span - state.into
  elseif state.before > 0 then
    reset = span - state.into
  end
  return math.max(0, left), reset
end

local kinds = { bucket = bucket, log = log, window = window }
local states, longest, slowest = {}, 0, 0

local function rule(i)
  local made = RULES[i]
  return kinds[made[1]], made[2], made[3], made[4]
end

for i, key in ipairs(KEYS) do
  local kind, a, b, c = rule(i)
  states[i] = kind.read(key, a, b, c)
  local wait = mode == 'refund' and 0 or kind.wait(states[i], a, b, c, key)
  if wait > longest then
    longest, slowest = wait, i
  end
end

if mode == 'refund' or (longest == 0 and mode ~= 'peek') then
  for i, key in ipairs(KEYS) do
    local kind, a, b, c = rule(i)
    kind.write(key, states[i], a, b, c, mode == 'refund' and -1 or 1)
  end
end

if mode == 'admit' or mode == 'refund' then
  return { longest, slowest, 0, 0 }
end

local least, reset = nil, 0
for i, key in ipairs(KEYS) do
  if slowest == 0 or slowest == i or least == nil then
    local kind, a, b, c = rule(i)
    local left, until_empty = kind.left(key, states[i], a, b, c)
    if i == slowest or (slowest == 0 and (least == nil or left < least)) then
      least, reset = left, until_empty
      if longest == 0 then
        mode = i
      end
    end
  end
end
return { longest, slowest > 0 and slowest or mode, least, reset }
