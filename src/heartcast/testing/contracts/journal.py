"""What every ``Journal`` must keep, one test per guarantee of its docstring.

    class TestMyJournal(JournalContract):
        async def open(self, folder): return MyJournal(folder)

``folder`` is the same for every opening within one test.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from heartcast.core.errors import StoreUnavailable
from heartcast.push.journal import Change, Journal, Note
from heartcast.push.model import Extra, Push, Round, State
from heartcast.push.templates import load

NOW_MS = 1_700_000_000_000
HORIZON_MS = NOW_MS + 900_000

_TEMPLATE = load().find("news_v2")


def a_push(name: str, user: str = "ann", **extra: object) -> Push:
    """A queued push with this id and, if any are given, these extras."""
    push = Push(name, user, False, _TEMPLATE, b'{"title":"x"}', NOW_MS, NOW_MS)
    if extra:
        push.extra = Extra(**extra)  # type: ignore[arg-type]
    if push.due_ms:
        push.state = State.DEFERRED
    return push


async def write(journal: Journal, change: Change) -> None:
    """Write and wait.

    Raises:
        StoreUnavailable: nothing was written.
    """
    answer: asyncio.Future[StoreUnavailable | None] = asyncio.get_running_loop().create_future()
    journal.write(change, answer.set_result)
    if (error := await answer) is not None:
        raise error


async def due(
    journal: Journal, until_ms: int, limit: int = 100, after: tuple[int, str] = (HORIZON_MS, "~")
) -> list[Push]:
    """``Journal.due``, awaited."""
    answer: asyncio.Future[list[Push] | StoreUnavailable] = asyncio.get_running_loop().create_future()
    journal.due(after, until_ms, limit, answer.set_result)
    found = await answer
    assert isinstance(found, list)
    return found


async def fetch(journal: Journal, push_id: str) -> list[Push]:
    """``Journal.fetch``, awaited."""
    answer: asyncio.Future[list[Push] | StoreUnavailable] = asyncio.get_running_loop().create_future()
    journal.fetch(push_id, answer.set_result)
    found = await answer
    assert isinstance(found, list)
    return found


async def of_user(journal: Journal, user: str) -> list[Push]:
    """``Journal.of_user``, awaited."""
    answer: asyncio.Future[list[Push] | StoreUnavailable] = asyncio.get_running_loop().create_future()
    journal.of_user(user, answer.set_result)
    found = await answer
    assert isinstance(found, list)
    return found


def ids(pushes: list[Push]) -> list[str]:
    return [push.id for push in pushes]


class JournalContract(ABC):
    """Inherit, say how to open your journal, and run."""

    @abstractmethod
    async def open(self, folder: Path) -> Journal:
        """A journal over what is in the folder; the test closes it."""

    @pytest.fixture
    async def journal(self, tmp_path: Path) -> Journal:
        return await self.open(tmp_path)

    @pytest.fixture(autouse=True)
    async def _closed_at_the_end(self, journal: Journal) -> AsyncIterator[None]:
        yield
        await journal.close()

    async def next_life(self, journal: Journal, folder: Path) -> Journal:
        """Another journal over the same folder."""
        await journal.close()
        return await self.open(folder)

    async def test_1_what_was_answered_is_there_in_the_next_life_if_that_is_promised(
        self, journal: Journal, tmp_path: Path
    ) -> None:
        extra = {
            "ttl_ms": 5,
            "category": "news",
            "dedupe_key": "k",
            "dedupe_ms": 7,
            "rounds": [Round(NOW_MS, "cap", "deferred", "cap", NOW_MS + 1, "other")],
        }
        await write(journal, Change(accepted=[a_push("p1", "ünï ☃", **extra)]))
        journal = await self.next_life(journal, tmp_path)

        found = journal.replay(HORIZON_MS).pushes
        assert ids(found) == (["p1"] if journal.is_durable else [])
        for push in found:
            assert (push.user, push.payload, push.template.key) == ("ünï ☃", b'{"title":"x"}', "news_v2@1")
            assert push.asked.rounds == extra["rounds"]
            assert (push.asked.ttl_ms, push.asked.category, push.asked.dedupe_ms) == (5, "news", 7)
        await journal.close()

    async def test_2_replay_gives_what_did_not_end_in_the_order_of_acceptance(
        self, journal: Journal, tmp_path: Path
    ) -> None:
        pushes = [a_push(f"p{n}", f"u{n % 3}") for n in range(9)]
        await write(journal, Change(accepted=pushes[:4]))
        await write(journal, Change(accepted=pushes[4:]))
        pushes[3].payload = b'{"title":"other"}'
        await write(journal, Change(changed=[pushes[3]], ended=[pushes[1], pushes[6]]))
        journal = await self.next_life(journal, tmp_path)

        found = journal.replay(HORIZON_MS).pushes
        left = ["p0", "p2", "p3", "p4", "p5", "p7", "p8"]
        assert ids(found) == (left if journal.is_durable else [])
        assert [push.payload for push in found if push.id == "p3"] == (
            [b'{"title":"other"}'] if journal.is_durable else []
        )
        await journal.close()

    async def test_3_a_change_by_a_closed_journal_is_refused_and_leaves_nothing(
        self, journal: Journal, tmp_path: Path
    ) -> None:
        await journal.close()
        if journal.is_durable:
            with pytest.raises(StoreUnavailable):
                await write(journal, Change(accepted=[a_push("late")], notes=[Note("d:late", b"x")]))
        journal = await self.open(tmp_path)
        assert journal.replay(HORIZON_MS).pushes == []
        assert journal.notes("d:", NOW_MS) == []
        await journal.close()

    async def test_4_what_ended_is_in_no_later_answer(self, journal: Journal, tmp_path: Path) -> None:
        far = a_push("far", due_ms=HORIZON_MS + 5)
        near = a_push("near")
        await write(journal, Change(accepted=[far, near]))
        journal.leave(far)
        await write(journal, Change(ended=[far, near]))

        assert await fetch(journal, "far") == []
        assert await due(journal, HORIZON_MS + 10) == []
        journal = await self.next_life(journal, tmp_path)
        assert journal.replay(HORIZON_MS).pushes == []
        await journal.close()

    async def test_5_what_is_written_without_asking_is_written_all_the_same(
        self, journal: Journal, tmp_path: Path
    ) -> None:
        push = a_push("p1")
        await write(journal, Change(accepted=[push, a_push("p2")]))
        journal.write(Change(ended=[push], notes=[Note("d:k", b"v")]), None)
        journal = await self.next_life(journal, tmp_path)

        assert ids(journal.replay(HORIZON_MS).pushes) == (["p2"] if journal.is_durable else [])
        assert len(journal.notes("d:", NOW_MS)) == (1 if journal.is_durable else 0)
        await journal.close()

    async def test_6_what_is_due_late_comes_when_it_is_asked_for_and_in_pages(
        self, journal: Journal, tmp_path: Path
    ) -> None:
        # Many at one moment: a page may end between two that are due in the same millisecond.
        pushes = [a_push(f"p{n}", due_ms=HORIZON_MS + 1 + n // 3) for n in range(6)]
        await write(journal, Change(accepted=pushes))
        for push in pushes:
            journal.leave(push)

        assert ids(await fetch(journal, "p2")) == ["p2"]
        assert len(await of_user(journal, "ann")) == 6
        assert await of_user(journal, "bob") == []
        assert await fetch(journal, "p7") == []
        first = await due(journal, HORIZON_MS + 9, limit=2)
        rest = await due(journal, HORIZON_MS + 9, after=(first[-1].due_ms, first[-1].id))
        assert ids([*first, *rest]) == [f"p{n}" for n in range(6)]
        assert ids(await due(journal, HORIZON_MS + 1)) == ["p0", "p1", "p2"]
        if journal.is_durable:
            journal = await self.next_life(journal, tmp_path)
            replay = journal.replay(HORIZON_MS + 1)
            assert (ids(replay.pushes), replay.far) == (["p0", "p1", "p2"], 3)
            await journal.close()

    async def test_7_every_call_is_answered_once_and_in_order_also_by_a_journal_that_closes(
        self, journal: Journal
    ) -> None:
        answers: list[int] = []
        for n in range(30):
            if n % 3:
                journal.write(Change(accepted=[a_push(f"p{n:02}")]), lambda _, n=n: answers.append(n))  # type: ignore[misc]
            else:
                journal.fetch("nobody", lambda _, n=n: answers.append(n))  # type: ignore[misc]
        await journal.close()
        assert answers == list(range(30))

    async def test_8_the_last_note_of_a_key_counts_until_it_runs_out(
        self, journal: Journal, tmp_path: Path
    ) -> None:
        await write(journal, Change(notes=[Note("d:a", b"1"), Note("d:b", b"1"), Note("e:a", b"1")]))
        await write(journal, Change(notes=[Note("d:a", b"2"), Note("d:b", None)]))
        await write(journal, Change(notes=[Note("d:old", b"1", NOW_MS - 1), Note("d:c", b"3", NOW_MS)]))
        journal.forget(NOW_MS)
        journal = await self.next_life(journal, tmp_path)

        expected = [("d:a", b"2"), ("d:c", b"3")] if journal.is_durable else []
        assert sorted((key, value) for key, value, _ in journal.notes("d:", NOW_MS)) == expected
        await journal.close()
