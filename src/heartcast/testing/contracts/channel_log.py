"""One test per guarantee of ``ChannelLog``.

Subclass it where an adapter is tested, and give it two fixtures: ``log``, made with a
history of ``HISTORY_SIZE`` publications and ``HISTORY_TTL_S`` seconds, and ``lose``,
which makes the log forget everything as a crash or a removal would, and gives the log
that comes after.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from heartcast.core.errors import StoreUnavailable
from heartcast.realtime.log import ChannelLog, Complete, Gap, Position, Publication
from heartcast.testing.clock import ManualClock
from heartcast.testing.eventually import eventually

HISTORY_SIZE = 10
HISTORY_TTL_S = 60.0
CHANNEL = "feed:contract"

Lose = Callable[[], ChannelLog]


async def append(log: ChannelLog, data: bytes, channel: str = CHANNEL, *, key: str | None = None) -> Position:
    """Append and wait for the position."""
    answer: asyncio.Future[Position | StoreUnavailable] = asyncio.get_running_loop().create_future()
    log.append(channel, data, None, None, answer.set_result, key=key)
    position = await answer
    assert isinstance(position, Position)
    return position


async def since(log: ChannelLog, position: Position | None, limit: int = 100) -> Complete | Gap:
    """Ask what came after a position and wait for the answer."""
    answer: asyncio.Future[Complete | Gap | StoreUnavailable] = asyncio.get_running_loop().create_future()
    log.since(CHANNEL, position, limit, answer.set_result)
    result = await answer
    assert not isinstance(result, StoreUnavailable)
    return result


async def history(
    log: ChannelLog, after: Position | None, limit: int, *, reverse: bool = False
) -> list[bytes]:
    """A page of the log."""
    answer: asyncio.Future[Complete | Gap | StoreUnavailable] = asyncio.get_running_loop().create_future()
    log.history(CHANNEL, after, limit, reverse, answer.set_result)
    result = await answer
    assert isinstance(result, Complete)
    return [publication.data for publication in result.publications]


def data_of(publications: list[Publication]) -> list[bytes]:
    return [publication.data for publication in publications]


class ChannelLogContract:
    """Guarantees 1 to 6 of ``ChannelLog``."""

    async def test_1_offsets_are_dense_per_channel(self, log: ChannelLog) -> None:
        mine = [await append(log, b"%d" % number) for number in range(5)]
        other = await append(log, b"x", "feed:other")

        assert [position.offset for position in mine] == [1, 2, 3, 4, 5]
        assert {position.epoch for position in mine} == {mine[0].epoch}
        assert other.offset == 1

    async def test_2_since_is_whole_or_a_gap(self, log: ChannelLog) -> None:
        positions = [await append(log, b"%d" % number) for number in range(HISTORY_SIZE + 5)]
        top = positions[-1]
        for position in positions:
            answer = await since(log, position)
            missed = top.offset - position.offset
            if missed > HISTORY_SIZE:
                assert isinstance(answer, Gap)
            else:
                assert isinstance(answer, Complete)
                expected = [b"%d" % number for number in range(position.offset, top.offset)]
                assert data_of(answer.publications) == expected
            assert answer.top == top

    async def test_2_more_than_the_limit_is_a_gap(self, log: ChannelLog) -> None:
        first = await append(log, b"0")
        for number in range(4):
            await append(log, b"%d" % number)

        assert isinstance(await since(log, first, limit=3), Gap)
        assert isinstance(await since(log, first, limit=4), Complete)

    async def test_3_a_position_of_another_life_is_a_gap(self, log: ChannelLog, lose: Lose) -> None:
        old = await append(log, b"old")
        after = lose()
        await append(after, b"new")

        assert isinstance(await since(after, old), Gap)

    async def test_3_a_position_beyond_the_top_is_a_gap(self, log: ChannelLog) -> None:
        top = await append(log, b"x")

        assert isinstance(await since(log, Position(top.offset + 1, top.epoch)), Gap)

    async def test_4_no_more_than_the_history_size_is_kept(self, log: ChannelLog) -> None:
        for number in range(HISTORY_SIZE * 3):
            await append(log, b"%d" % number)

        kept = await history(log, None, 1_000)
        assert kept == [b"%d" % number for number in range(HISTORY_SIZE * 2, HISTORY_SIZE * 3)]

    async def test_4_nothing_older_than_the_ttl_is_kept(self, log: ChannelLog, clock: ManualClock) -> None:
        first = await append(log, b"old")
        clock.advance(HISTORY_TTL_S / 2)
        second = await append(log, b"young")
        clock.advance(HISTORY_TTL_S / 2)

        assert await history(log, None, 10) == [b"young"]
        assert isinstance(await since(log, Position(0, first.epoch)), Gap)
        assert isinstance(await since(log, second), Complete)

    async def test_5_every_callback_is_called_once(self, log: ChannelLog) -> None:
        calls: list[str] = []
        log.append(CHANNEL, b"1", None, None, lambda answer: calls.append("append"))
        log.since(CHANNEL, None, 10, lambda answer: calls.append("since"))
        log.history(CHANNEL, None, 10, False, lambda answer: calls.append("history"))
        await eventually(lambda: len(calls) == 3)
        await append(log, b"2")

        assert sorted(calls) == ["append", "history", "since"]

    async def test_6_a_key_appends_once(self, log: ChannelLog) -> None:
        first = await append(log, b"1", key="k")
        again = await append(log, b"1", key="k")
        other = await append(log, b"2", key="l")
        elsewhere = await append(log, b"3", "feed:other", key="k")

        assert again == first
        assert (other.offset, elsewhere.offset) == (2, 1)
        assert await history(log, None, 10) == [b"1", b"2"]

    async def test_what_was_appended_comes_back_as_it_was(self, log: ChannelLog) -> None:
        whole = Publication('{"text":"hällo \u2028"}'.encode(), 1, {"id": "1", "a": 'b"'}, b'{"user":"u"}')
        answer: asyncio.Future[Position | StoreUnavailable] = asyncio.get_running_loop().create_future()
        log.append(CHANNEL, whole.data, whole.tags, whole.client, answer.set_result)
        top = await answer
        assert isinstance(top, Position)
        found = await since(log, Position(0, top.epoch))

        assert isinstance(found, Complete)
        assert found.publications == [whole]

    async def test_history_pages_forward_and_back(self, log: ChannelLog) -> None:
        positions = [await append(log, b"%d" % number) for number in range(5)]

        assert await history(log, positions[1], 2) == [b"2", b"3"]
        assert await history(log, positions[3], 2, reverse=True) == [b"2", b"1"]
        assert await history(log, None, 0) == []
