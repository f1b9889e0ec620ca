"""Any sequence of calls does to a store what it does to a plain dictionary."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heartcast.core.clock import SystemClock
from heartcast.core.errors import InvalidInput, StoreUnavailable
from heartcast.core.ids import IdSource
from heartcast.hearts.model import Count, HeartEvent, HeartKey, Once, Outcome, Receipt, Step
from heartcast.hearts.store import HeartStore
from heartcast.hearts.store.awaiting import Awaiting
from heartcast.hearts.store.memory import MemoryHeartStore
from heartcast.hearts.store.memory_events import MemoryEvents
from heartcast.hearts.store.sqlite import SqliteHeartStore

MINUTE_MS = 60_000
KINDS = ("heart", "clap")
TARGETS = ("a", "b", "c")
USERS = ("1", "2", "3", "4")
keys = st.builds(HeartKey, st.sampled_from(TARGETS), st.sampled_from(USERS), st.sampled_from(KINDS))
calls = st.lists(st.tuples(st.booleans(), st.lists(keys, min_size=1, max_size=6)), max_size=25)
# The calls of a round are made in one turn of the loop, so that they may share a commit.
rounds = st.lists(calls, min_size=1, max_size=4)
steps = st.builds(Step, st.booleans(), keys)
# Few names and fingerprints, so that many requests are repetitions, and some are of another request.
receipts = st.builds(
    Receipt,
    st.sampled_from([b"m" * 16, b"n" * 16]),
    st.sampled_from([b"f" * 16, b"g" * 16]),
    # Minutes, so that a server that drops them by its own clock does not do it within the test.
    st.integers(1, 9).map(lambda minutes: minutes * MINUTE_MS),
)
requests = st.lists(st.tuples(receipts, st.lists(steps, min_size=1, max_size=5)), min_size=1, max_size=12)


class Model:
    """The plain truth: who hearts what since when, and how often a target changed."""

    def __init__(self) -> None:
        self.hearts: dict[HeartKey, int] = {}
        self.versions: dict[tuple[str, str], int] = {}
        self.events: list[tuple[int, HeartKey, int, int]] = []

    def apply(self, is_add: bool, key: HeartKey, now_ms: int) -> tuple[int, int, bool]:
        changed = (key in self.hearts) != is_add
        if changed:
            self.versions[key.target_id, key.kind] = self.version(key.target_id, key.kind) + 1
            if is_add:
                self.hearts[key] = now_ms
            else:
                del self.hearts[key]
            count, version = self.count(key.target_id, key.kind), self.version(key.target_id, key.kind)
            self.events.append((1 if is_add else -1, key, count, version))
        return self.count(key.target_id, key.kind), self.version(key.target_id, key.kind), changed

    def count(self, target_id: str, kind: str) -> int:
        return sum(key.target_id == target_id and key.kind == kind for key in self.hearts)

    def version(self, target_id: str, kind: str) -> int:
        return self.versions.get((target_id, kind), 0)


async def _same_turn(
    store: HeartStore, calls: list[tuple[bool, list[HeartKey]]], now_ms: int
) -> list[list[Outcome]]:
    answers: dict[int, list[Outcome]] = {}
    all_answered = asyncio.Event()

    def note(at: int, outcomes: list[Outcome] | StoreUnavailable) -> None:
        assert isinstance(outcomes, list)
        assert at not in answers
        answers[at] = outcomes
        if len(answers) == len(calls):
            all_answered.set()

    for at, (is_add, asked) in enumerate(calls):
        (store.add if is_add else store.remove)(asked, now_ms, lambda outcomes, at=at: note(at, outcomes))
    if calls:
        await all_answered.wait()
    return [answers[at] for at in range(len(calls))]


async def _events(store: HeartStore) -> list[tuple[int, tuple[int, HeartKey, int, int]]]:
    seen: list[HeartEvent] = []
    while page := (await store.events(seen[-1].number if seen else 0, 3)).events:
        seen += page
    return [
        (number, (one.delta, HeartKey(one.target_id, one.user_id, one.kind), one.count, one.version))
        for number, _, one in seen
    ]


async def _compare(store: HeartStore, model: Model) -> None:
    seen = {heart.key: heart.created_ms async for batch in store.scan() for heart in batch}
    assert seen == model.hearts
    assert await _events(store) == list(enumerate(model.events, 1))
    for kind in KINDS:
        expected = [Count(name, model.count(name, kind), model.version(name, kind)) for name in TARGETS]
        assert await Awaiting(store).counts(TARGETS, kind) == expected
        for user in USERS:
            of_user = await store.page(target_id=None, user_id=user, kind=kind, after="", limit=200)
            assert {heart.key for heart in of_user} == {
                key for key in model.hearts if (key.user_id, key.kind) == (user, kind)
            }
            hearted = [HeartKey(name, user, kind) in model.hearts for name in TARGETS]
            assert await Awaiting(store).hearted(user, TARGETS, kind) == hearted


Open = Callable[[Path], Awaitable[HeartStore]]


async def _play(open_store: Open, folder: Path, rounds: list[list[tuple[bool, list[HeartKey]]]]) -> None:
    store, model = await open_store(folder), Model()
    for now_ms, calls in enumerate(rounds, 1):
        outcomes = await _same_turn(store, calls, now_ms)
        for (is_add, asked), results in zip(calls, outcomes, strict=True):
            expected = [model.apply(is_add, key, now_ms) for key in asked]
            assert [(result.count, result.version, result.changed) for result in results] == expected
        await _compare(store, model)
        if store.is_durable:
            await store.close()
            store = await open_store(folder)
            await _compare(store, model)
    await store.close()


async def _open_memory(folder: Path) -> HeartStore:
    return MemoryHeartStore(IdSource(SystemClock()), MemoryEvents(SystemClock()))


async def _open_sqlite(folder: Path) -> HeartStore:
    return SqliteHeartStore(folder / "hearts.db", clock=SystemClock(), keeps_events=True)


@pytest.mark.parametrize(
    ("kind", "examples"), [("memory", 100), ("sqlite", 25), ("postgres", 15), ("redis", 25)]
)
def test_a_store_does_what_a_dictionary_does(
    kind: str, examples: int, open_postgres: Open, open_redis: Open
) -> None:
    servers = {"postgres": open_postgres, "redis": open_redis}
    open_store = {"memory": _open_memory, "sqlite": _open_sqlite, **servers}[kind]

    @settings(max_examples=examples, deadline=None)
    @given(rounds)
    def play(rounds: list[list[tuple[bool, list[HeartKey]]]]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(_play(open_store, Path(folder), rounds))

    play()


Request = tuple[Receipt, list[Step]]
Told = list[tuple[int, int, bool]]


class Receipts:
    """The plain truth about requests that are done once."""

    def __init__(self) -> None:
        self.model = Model()
        self._known: dict[bytes, tuple[Receipt, Told]] = {}

    def once(self, receipt: Receipt, steps: list[Step], now_ms: int) -> tuple[Told, bool] | None:
        """What is told and whether it is a repetition; None: the name is that of another request."""
        known = self._known.get(receipt.name)
        if known is not None and known[0].until_ms >= now_ms:
            return (known[1], True) if known[0].fingerprint == receipt.fingerprint else None
        told = [self.model.apply(is_add, key, now_ms) for is_add, key in steps]
        self._known[receipt.name] = receipt, told
        return told, False


async def _ask(store: HeartStore, request: Request, now_ms: int) -> tuple[Told, bool] | None:
    try:
        once: Once = await Awaiting(store).once(*request, now_ms)
    except InvalidInput:
        return None
    return [(one.count, one.version, one.changed) for one in once.outcomes], once.is_repeated


async def _play_once(open_store: Open, folder: Path, requests: list[Request]) -> None:
    store, truth = await open_store(folder), Receipts()
    for minutes, request in enumerate(requests, 1):
        now_ms = minutes * MINUTE_MS
        # A second one in the same turn shares a commit with the first.
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(_ask(store, request, now_ms)) for _ in range(2)]
        assert [task.result() for task in asked] == [truth.once(*request, now_ms) for _ in range(2)]
    await _compare(store, truth.model)
    await store.close()


@pytest.mark.parametrize(
    ("kind", "examples"), [("memory", 100), ("sqlite", 25), ("postgres", 15), ("redis", 25)]
)
def test_requests_that_are_done_once_do_what_a_dictionary_says(
    kind: str, examples: int, open_postgres: Open, open_redis: Open
) -> None:
    servers = {"postgres": open_postgres, "redis": open_redis}
    open_store = {"memory": _open_memory, "sqlite": _open_sqlite, **servers}[kind]

    @settings(max_examples=examples, deadline=None)
    @given(requests)
    def play(requests: list[Request]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(_play_once(open_store, Path(folder), requests))

    play()
