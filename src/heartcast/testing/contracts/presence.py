"""One test per guarantee of ``Presence``.

Subclass it where an adapter is tested, and give it a fixture ``nodes``: one ``Node`` for
each process of an installation. Guarantee 3 is about the death of a process and has its
tests beside the adapters that know of more than one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from heartcast.core.errors import StoreUnavailable
from heartcast.realtime.presence import MAX_PAGE, Counts, Member, Members, Presence
from heartcast.testing.eventually import eventually

CHANNEL = "public:contract"


class Node:
    """A process: its presence and who is in it."""

    def __init__(self, make: Callable[[Members], Presence]) -> None:
        self._here: dict[str, dict[str, Member]] = {}
        self.looked_at = 0
        """Members that were read."""
        self.presence = make(self._members)

    def _members(self, channel: str) -> Iterable[Member]:
        for member in self._here.get(channel, {}).values():
            self.looked_at += 1
            yield member

    def enter(self, client: str, user: str, channel: str = CHANNEL) -> None:
        self._here.setdefault(channel, {})[client] = Member(client, user)
        self.presence.enter(channel, Member(client, user))

    def leave(self, client: str, channel: str = CHANNEL) -> None:
        self.presence.leave(channel, self._here[channel].pop(client))

    async def count(self, channel: str = CHANNEL) -> Counts:
        answer: asyncio.Future[Counts | StoreUnavailable] = asyncio.get_running_loop().create_future()
        self.presence.count(channel, answer.set_result)
        counts = await answer
        assert isinstance(counts, Counts)
        return counts

    async def page(self, channel: str = CHANNEL) -> list[Member]:
        answer: asyncio.Future[list[Member] | StoreUnavailable] = asyncio.get_running_loop().create_future()
        self.presence.page(channel, answer.set_result)
        page = await answer
        assert isinstance(page, list)
        return page


class PresenceContract:
    """Guarantees 1, 2 and 4 of ``Presence``."""

    async def test_1_who_entered_counts_and_who_left_does_not(self, nodes: list[Node]) -> None:
        first, last = nodes[0], nodes[-1]
        first.enter("c1", "ann")
        assert await first.count() == (1, 1)
        last.enter("c2", "ann")
        last.enter("c3", "")
        last.enter("c4", "", "public:other")
        assert await last.count() == (3, 2)
        assert sorted(await last.page()) == [("c1", "ann"), ("c2", "ann"), ("c3", "")]
        last.leave("c3")
        assert await last.count() == (2, 1)
        first.leave("c1")
        last.leave("c2")
        assert await last.count() == (0, 0)
        assert await last.page() == []
        assert await first.count("public:other") == (1, 1)

    async def test_2_asking_does_not_look_at_everyone(self, nodes: list[Node]) -> None:
        for number in range(3 * MAX_PAGE):
            nodes[-1].enter(f"c{number}", f"u{number % 7}")
        before = nodes[-1].looked_at

        assert await nodes[-1].count() == (3 * MAX_PAGE, 7)
        assert nodes[-1].looked_at == before
        page = await nodes[-1].page()
        assert MAX_PAGE / 2 <= len(set(page)) <= 2 * MAX_PAGE
        assert nodes[-1].looked_at - before <= MAX_PAGE

    async def test_4_every_callback_is_called_once(self, nodes: list[Node]) -> None:
        calls: list[str] = []
        nodes[0].presence.count(CHANNEL, lambda counts: calls.append("count"))
        nodes[0].presence.page(CHANNEL, lambda page: calls.append("page"))
        await eventually(lambda: len(calls) == 2)
        await nodes[0].count()

        assert sorted(calls) == ["count", "page"]
