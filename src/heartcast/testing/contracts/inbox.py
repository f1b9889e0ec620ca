"""What every ``Inbox`` must keep, one test per guarantee of its docstring.

    class TestMyInbox(InboxContract):
        async def open(self, folder): return MyInbox(folder, max_pushes=MAX_PUSHES)

``folder`` is the same for every opening within one test.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from heartcast.core.errors import StoreUnavailable
from heartcast.push.inbox import Inbox, Kept, Mark, Missing
from heartcast.push.inbox.memory import FORGET_AFTER_MS
from heartcast.push.model import Push
from heartcast.push.templates import load

MAX_PUSHES = 5
"""What ``open`` must pass as the bound of a mailbox."""

_TEMPLATE = load().find("news_v2")


def pushes_for(user: str, *names: str) -> list[Push]:
    """Queued pushes with these ids."""
    return [Push(name, user, False, _TEMPLATE, b'{"title":"x"}', 1_000, 1_000) for name in names]


async def append(inbox: Inbox, pushes: Sequence[Push], now_ms: int = 1_000) -> list[Push]:
    """Append and wait; returns what was evicted."""
    answer: asyncio.Future[list[Push] | StoreUnavailable] = asyncio.get_running_loop().create_future()
    inbox.append(pushes, now_ms, answer.set_result)
    result = await answer
    if isinstance(result, StoreUnavailable):
        raise result
    return result


async def since(inbox: Inbox, user: str, mark: Mark | None = None, limit: int = 100) -> Kept | Missing:
    """``Inbox.since``, awaited."""
    answer: asyncio.Future[Kept | Missing] = asyncio.get_running_loop().create_future()
    inbox.since(user, mark, limit, answer.set_result)
    return await answer


async def kept(inbox: Inbox, user: str, mark: Mark | None = None, limit: int = 100) -> Kept:
    """``since`` where it must be whole."""
    found = await since(inbox, user, mark, limit)
    assert isinstance(found, Kept)
    return found


def ids(found: Kept) -> list[str]:
    return [push.id for push in found.pushes]


class InboxContract(ABC):
    """Inherit, say how to open your inbox, and run."""

    @abstractmethod
    async def open(self, folder: Path) -> Inbox:
        """An inbox over what is in the folder, with mailboxes of ``MAX_PUSHES``; the test closes it."""

    @pytest.fixture
    async def inbox(self, tmp_path: Path) -> Inbox:
        return await self.open(tmp_path)

    @pytest.fixture(autouse=True)
    async def _closed_at_the_end(self, inbox: Inbox) -> AsyncIterator[None]:
        yield
        await inbox.close()

    async def reopen(self, inbox: Inbox, folder: Path) -> Inbox:
        """Another life over the same folder, or the same inbox where there is none."""
        if not inbox.is_durable:
            return inbox
        await inbox.close()
        return await self.open(folder)

    async def test_1_offsets_count_up_from_one_for_each_user(self, inbox: Inbox) -> None:
        await append(inbox, [*pushes_for("ann", "a1", "a2"), *pushes_for("bob", "b1")])
        await append(inbox, pushes_for("ann", "a3"))

        found = await kept(inbox, "ann")
        assert [(push.id, push.offset) for push in found.pushes] == [("a1", 1), ("a2", 2), ("a3", 3)]
        assert (found.start.offset, found.top.offset) == (0, 3)
        assert [push.offset for push in (await kept(inbox, "bob")).pushes] == [1]

    async def test_1_appends_that_do_not_wait_for_each_other_stay_in_order(self, inbox: Inbox) -> None:
        for n in range(MAX_PUSHES - 1):
            inbox.append(pushes_for("ann", f"a{n}"), 1_000, lambda evicted: None)
        await append(inbox, pushes_for("ann", "last"))

        assert ids(await kept(inbox, "ann")) == [*(f"a{n}" for n in range(MAX_PUSHES - 1)), "last"]

    async def test_2_a_mark_is_answered_whole_or_not_at_all(self, inbox: Inbox) -> None:
        await append(inbox, pushes_for("ann", "a1", "a2", "a3"))
        top = (await kept(inbox, "ann")).top

        assert ids(await kept(inbox, "ann", Mark(1, top.epoch), limit=2)) == ["a2", "a3"]
        assert ids(await kept(inbox, "ann", top)) == []
        assert await since(inbox, "ann", Mark(0, top.epoch), limit=2) == Missing(top)

    async def test_2_a_mark_before_something_lost_is_missing(self, inbox: Inbox, tmp_path: Path) -> None:
        pushes = pushes_for("ann", "a1", "a2", "a3")
        await append(inbox, pushes)
        inbox.settle(pushes[:2], is_lost=True, now_ms=2_000)
        top = (await kept(inbox, "ann")).top
        inbox = await self.reopen(inbox, tmp_path)

        assert await since(inbox, "ann", Mark(1, top.epoch)) == Missing(top)
        assert ids(await kept(inbox, "ann", Mark(2, top.epoch))) == ["a3"]
        await inbox.close()

    async def test_2_a_mark_before_something_acknowledged_is_whole(self, inbox: Inbox) -> None:
        pushes = pushes_for("ann", "a1", "a2", "a3")
        await append(inbox, pushes)
        inbox.settle([pushes[1]], is_lost=False, now_ms=2_000)

        top = (await kept(inbox, "ann")).top
        assert ids(await kept(inbox, "ann", Mark(0, top.epoch))) == ["a1", "a3"]

    async def test_3_a_mark_of_another_epoch_or_beyond_the_top_is_missing(self, inbox: Inbox) -> None:
        await append(inbox, pushes_for("ann", "a1"))
        top = (await kept(inbox, "ann")).top

        assert await since(inbox, "ann", Mark(1, "another")) == Missing(top)
        assert await since(inbox, "ann", Mark(2, top.epoch)) == Missing(top)

    async def test_3_a_mailbox_that_was_forgotten_begins_another_epoch(
        self, inbox: Inbox, tmp_path: Path
    ) -> None:
        pushes = pushes_for("ann", "a1", "a2")
        await append(inbox, pushes)
        old = (await kept(inbox, "ann")).top
        inbox.settle(pushes, is_lost=False, now_ms=2_000)
        await append(inbox, pushes_for("bob", "b1"))
        inbox.forget(2_000 + FORGET_AFTER_MS)
        inbox = await self.reopen(inbox, tmp_path)
        await append(inbox, pushes_for("ann", "a3"))

        top = (await kept(inbox, "ann")).top
        assert top.epoch != old.epoch
        assert top.offset == 1
        assert await since(inbox, "ann", old) == Missing(top)
        await inbox.close()

    async def test_4_a_full_mailbox_hands_back_its_oldest(self, inbox: Inbox, tmp_path: Path) -> None:
        await append(inbox, pushes_for("bob", "b1"))
        assert await append(inbox, pushes_for("ann", *(f"a{n}" for n in range(MAX_PUSHES)))) == []
        evicted = await append(inbox, pushes_for("ann", "new", "newer"))
        top = (await kept(inbox, "ann")).top
        inbox = await self.reopen(inbox, tmp_path)

        assert [push.id for push in evicted] == ["a0", "a1"]
        assert ids(await kept(inbox, "ann")) == [*(f"a{n}" for n in range(2, MAX_PUSHES)), "new", "newer"]
        assert await since(inbox, "ann", Mark(1, top.epoch)) == Missing(top)
        assert ids(await kept(inbox, "bob")) == ["b1"]
        await inbox.close()

    async def test_5_what_is_settled_never_comes_back(self, inbox: Inbox, tmp_path: Path) -> None:
        pushes = pushes_for("ann", "a1", "a2", "a3")
        await append(inbox, pushes)
        inbox.settle([pushes[0], pushes[2]], is_lost=False, now_ms=2_000)
        inbox.settle([pushes[0]], is_lost=True, now_ms=2_000)
        top = (await kept(inbox, "ann")).top
        inbox = await self.reopen(inbox, tmp_path)

        assert ids(await kept(inbox, "ann", Mark(0, top.epoch))) == ["a2"]
        await append(inbox, pushes_for("ann", "a4"))
        assert [push.offset for push in (await kept(inbox, "ann")).pushes] == [2, 4]
        assert sorted(push.id for push in inbox.kept()) == ["a2", "a4"]
        await inbox.close()

    async def test_6_what_was_answered_is_there_in_the_next_life(self, inbox: Inbox, tmp_path: Path) -> None:
        await append(inbox, pushes_for("ann", "a1", "a2"))
        before = await kept(inbox, "ann")
        inbox = await self.reopen(inbox, tmp_path)

        after = await kept(inbox, "ann", Mark(0, before.top.epoch))
        assert after.top == before.top
        assert [push.payload for push in after.pushes] == [b'{"title":"x"}'] * 2
        assert [push.id for push in inbox.kept()] == ["a1", "a2"]
        await inbox.close()

    async def test_6_the_top_is_remembered_when_all_is_settled(self, inbox: Inbox, tmp_path: Path) -> None:
        pushes = pushes_for("ann", "a1", "a2")
        await append(inbox, pushes)
        top = (await kept(inbox, "ann")).top
        inbox.settle(pushes, is_lost=False, now_ms=2_000)
        for life in range(2):
            inbox = await self.reopen(inbox, tmp_path)
            assert await since(inbox, "ann", top) == Kept([], top, top)
            await append(inbox, last := pushes_for("ann", f"later{life}"))
            top = (await kept(inbox, "ann")).top
            inbox.settle(last, is_lost=False, now_ms=2_000)
        assert top.offset == 4
        await inbox.close()

    async def test_7_every_append_is_answered_once_also_by_an_inbox_that_closes(self, inbox: Inbox) -> None:
        answers: list[list[Push] | StoreUnavailable] = []
        for n in range(20):
            inbox.append(pushes_for(f"u{n}", f"p{n}"), 1_000, answers.append)
        await inbox.close()
        assert answers == [[]] * 20
