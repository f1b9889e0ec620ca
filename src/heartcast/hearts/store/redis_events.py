"""The outbox in Redis: a stream, added to by the script that changes the heart.

Ids of the stream are ``0-1``, ``0-2``, … (``XADD key 0-*``), so that events are numbered without
gaps as in every other store. The server runs one script at a time: order of numbers is
order of effects.
"""

from __future__ import annotations

from typing import Any, cast

from heartcast.backends.redis import Script
from heartcast.hearts.model import Cause, Change, EventPage, HeartEvent
from heartcast.hearts.store.redis_rows import ID_LENGTH, SEPARATOR

EVENTS = Script("""
local epoch = redis.call('GET', KEYS[2])
local last = 0
if redis.call('EXISTS', KEYS[1]) == 1 then
    local info = redis.call('XINFO', 'STREAM', KEYS[1])
    for at = 1, #info, 2 do
        if info[at] == 'last-generated-id' then
            last = string.match(info[at + 1], '%-(%d+)$')
        end
    end
end
return {epoch or '', last, redis.call('XRANGE', KEYS[1], '0-' .. ARGV[1], '+', 'COUNT', ARGV[2])}
""")
"""KEYS stream, epoch; ARGV first number, most events -> {epoch, last number, entries}."""

_TRIM_AT_ONCE = 1_000


def event_of(entry: Any) -> HeartEvent:
    """An entry of the stream."""
    entry_id, (_, text) = entry
    delta, cause, at_ms, kind, target_id, user_id, row, version, count = text.split(SEPARATOR)
    change = Change(
        int(delta), cast("Cause", cause), target_id, user_id, kind,
        row[:ID_LENGTH], int(row[ID_LENGTH:]), int(count), int(version),
    )  # fmt: skip
    return HeartEvent(int(entry_id.partition("-")[2]), int(at_ms), change)


def page_of(reply: Any) -> EventPage:
    """What ``EVENTS`` answers."""
    epoch, last, entries = reply
    return EventPage(epoch, int(last), [event_of(entry) for entry in entries])


async def trim(ask: Any, stream: str, before_ms: int, up_to: int) -> int:
    """As ``HeartStore.trim_events``, a thousand at a time.

    Args:
        ask: ``RedisPipe.ask``.
    """
    trimmed = 0
    while entries := await ask("XRANGE", stream, "-", "+", "COUNT", _TRIM_AT_ONCE):
        old = []
        for event in map(event_of, entries):
            if event.at_ms >= before_ms or event.number > up_to:
                break
            old.append(event.number)
        if old:
            trimmed += await ask("XTRIM", stream, "MINID", f"0-{old[-1] + 1}")
        if len(old) < _TRIM_AT_ONCE:
            break
    return trimmed
