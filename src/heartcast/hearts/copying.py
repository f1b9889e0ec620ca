"""Copying all hearts from one store to another while hearts come and go.

First the place in the source's events is noted, then all hearts are walked through by id and
given to the target, then every event since that place is done there as well. A heart that
changed meanwhile has an event, and its last event decides; one that has none was met by the walk
as it is. So the target ends as the source is, though nothing was locked and no moment was held.

Giving and taking hearts may be repeated, hence the place need not be exact: it is saved after
what it stands for is durable in the target, and a copy that was killed does a page again.

Counts prove the copy. Where they differ because the source goes on, the event that was done last
says what the count should be after it.

What is not copied: ids of hearts (the target makes its own, in the same order), versions and
events. Each begins anew there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import groupby
from typing import Any, Protocol

import msgspec

from heartcast.core.errors import Conflict, StoreUnavailable
from heartcast.hearts.model import Cause, Change, Count, EventPage, Heart, HeartEvent, HeartKey, Outcome
from heartcast.hearts.store import MAX_KEYS, HeartStore
from heartcast.hearts.store.awaiting import Awaiting

_HEARTS = 2_000
"""In a page of the walk."""
_EVENTS = 1_000
_TARGETS = 1_000
_ROUNDS = 5
"""Times that counts which differ are looked at again, each time after catching up."""
_MAX_TOLD = 100_000
"""Counts of events remembered, about 30 MB; then all are forgotten."""

Name = tuple[str, str]
"""A target and a kind."""


class Source(Protocol):
    """What a copy reads. The methods of ``HeartStore``, but for ``counted``."""

    async def walk(self, after: str, limit: int) -> list[Heart]: ...

    async def events(self, after: int, limit: int) -> EventPage: ...

    async def targets(self, after: str, limit: int) -> tuple[list[Name], str]: ...

    async def counted(self, target_ids: Sequence[str], kind: str) -> list[Count]:
        """As ``HeartStore.counts``, awaited."""
        ...


class StoreSource:
    """A heart store as a ``Source``."""

    def __init__(self, store: HeartStore) -> None:
        self._store = store
        self.walk = store.walk
        self.events = store.events
        self.targets = store.targets

    async def counted(self, target_ids: Sequence[str], kind: str) -> list[Count]:
        return await Awaiting(self._store).counts(target_ids, kind)


class Place(msgspec.Struct, kw_only=True):
    """How far a copy has come."""

    source: str
    target: str
    """Both for people, so that a place is not taken for that of another copy."""
    epoch: str
    number: int
    """Of the last event that was done in the target."""
    walked: str = ""
    """Id of the last heart that the walk has given."""
    is_walked: bool = False
    """Whether the walk has come to its end."""
    hearts: int = 0
    """Given by the walk."""
    events: int = 0
    """Done."""


class Difference(msgspec.Struct, frozen=True):
    """A target whose counts differ."""

    target_id: str
    kind: str
    source: int
    target: int


class Report(msgspec.Struct, frozen=True):
    """What a copy did, and whether it is one."""

    hearts: int
    events: int
    targets: int
    """Whose counts were compared."""
    differ: list[Difference]


async def begin(source: Source, target: HeartStore, names: tuple[str, str]) -> Place:
    """The place of a copy that has not begun.

    Args:
        names: Of source and target, for people.

    Raises:
        Conflict: the target has hearts already.
    """
    if (await target.targets("", 1))[0]:
        raise Conflict(f"{names[1]} has hearts already; copy into an empty store")
    page = await source.events(0, 1)
    return Place(source=names[0], target=names[1], epoch=page.epoch, number=page.last)


async def hearts_of(source: Source) -> int:
    """How many hearts there are, by the counts."""
    total = 0

    async def add(names: list[Name]) -> None:
        nonlocal total
        total += sum((await _counts(source.counted, names)).values())

    await _each_page(source, add)
    return total


class Copy:
    """One copy under way.

    Args:
        save: Makes a place durable.
        progress: Told after each page.
        now_ms: Wall time.
    """

    def __init__(
        self,
        source: Source,
        target: HeartStore,
        place: Place,
        *,
        save: Callable[[Place], None],
        progress: Callable[[Place], None],
        now_ms: Callable[[], int],
    ) -> None:
        self.place = place
        self._source = source
        self._target = target
        self._ours = StoreSource(target)
        self._save = save
        self._progress = progress
        self._now_ms = now_ms
        self._told: dict[Name, tuple[int, int]] = {}
        """Counts after the last event of a target: as told, and as found when it was done."""

    async def run(self) -> Report:
        """Copy, or go on, until what had happened when it ended the walk is there; then compare.

        Raises:
            Conflict: events are missing that the copy still needs; it has to begin anew.
            StoreUnavailable: a store failed; what was done stays, and another run goes on.
        """
        await self._walk()
        await self._catch_up()
        targets, wrong = await self._compared()
        for _ in range(_ROUNDS):
            if not wrong:
                break
            await self._catch_up()
            wrong = await self._differing(list(wrong))
        differ = [Difference(*name, *counts) for name, counts in wrong.items()]
        return Report(self.place.hearts, self.place.events, targets, differ)

    async def _walk(self) -> None:
        place = self.place
        while not place.is_walked:
            page = await self._source.walk(place.walked, _HEARTS)
            await self._give([heart.key for heart in page], [heart.created_ms for heart in page])
            place.hearts += len(page)
            place.walked = page[-1].id if page else place.walked
            place.is_walked = len(page) < _HEARTS
            self._note()

    async def _give(self, keys: Sequence[HeartKey], times_ms: Sequence[int]) -> None:
        parts = [slice(at, at + MAX_KEYS) for at in range(0, len(keys), MAX_KEYS)]
        await _together(
            [partial(self._target.load, keys[part], times_ms[part], cause="import") for part in parts]
        )

    async def _catch_up(self) -> None:
        """Do what has happened up to now; what happens meanwhile is left for the next time."""
        until = (await self._source.events(self.place.number, 1)).last
        while self.place.number < until:
            page = await self._source.events(self.place.number, _EVENTS)
            self._check(page)
            await self._do(page.events)
            self.place.number = page.events[-1].number
            self.place.events += len(page.events)
            self._note()

    def _check(self, page: EventPage) -> None:
        if page.epoch != self.place.epoch:
            raise Conflict("the source began another history of events; copy anew into an empty store")
        if not page.events or page.events[0].number != self.place.number + 1:
            raise Conflict(
                "events that the copy still needs are no longer kept; copy anew into an empty store"
            )

    async def _do(self, events: list[HeartEvent]) -> None:
        changes = [event.change for event in events]
        runs = [
            (asked, delta > 0, cause)
            for (delta, cause), run in groupby(changes, key=lambda change: (change.delta, _cause(change)))
            for asked in _parts(list(run))
        ]
        answers = await _together([self._call(*run) for run in runs])
        if len(self._told) > _MAX_TOLD:
            self._told.clear()
        for (asked, _, _), outcomes in zip(runs, answers, strict=True):
            for change, outcome in zip(asked, outcomes, strict=True):
                self._told[change.target_id, change.kind] = (change.count, outcome.count)

    def _call(self, asked: list[Change], is_add: bool, cause: Cause) -> Callable[..., None]:
        keys = [HeartKey(change.target_id, change.user_id, change.kind) for change in asked]
        if is_add:
            times_ms = [change.created_ms for change in asked]
            return partial(self._target.load, keys, times_ms, cause=cause)
        return partial(self._target.remove, keys, self._now_ms(), cause=cause)

    def _note(self) -> None:
        self._save(self.place)
        self._progress(self.place)

    # Comparing

    async def _compared(self) -> tuple[int, dict[Name, tuple[int, int]]]:
        wrong: dict[Name, tuple[int, int]] = {}
        seen = 0

        async def compare(names: list[Name]) -> None:
            nonlocal seen
            seen += len(names)
            wrong.update(await self._differing(names))

        await _each_page(self._source, compare)
        targets = seen
        # What only the target has would be in no page of the source.
        await _each_page(self._target, compare)
        return targets, wrong

    async def _differing(self, names: list[Name]) -> dict[Name, tuple[int, int]]:
        theirs = await _counts(self._source.counted, names)
        ours = await _counts(self._ours.counted, names)
        return {
            name: (theirs[name], ours[name])
            for name in names
            if theirs[name] != ours[name] and not self._is_as_told(name, ours[name])
        }

    def _is_as_told(self, name: Name, count: int) -> bool:
        """Whether it differs only because the source went on since the last event that was done."""
        return self._told.get(name) == (count, count)


async def _together(calls: Sequence[Callable[..., None]]) -> list[list[Outcome]]:
    """Make these calls of a store, each with a ``done``, and wait for all of their answers.

    They are made one after the other without waiting: a store does calls in the order made.

    Raises:
        StoreUnavailable: one failed.
    """
    loop = asyncio.get_running_loop()
    waiting: list[asyncio.Future[list[Outcome] | StoreUnavailable]] = [loop.create_future() for _ in calls]

    def answered(future: asyncio.Future[Any], result: object) -> None:
        if not future.done():  # cancelled: nobody waits any more
            future.set_result(result)

    for call, future in zip(calls, waiting, strict=True):
        call(done=partial(answered, future))
    answers: list[list[Outcome]] = []
    for result in [await future for future in waiting]:
        if isinstance(result, StoreUnavailable):
            raise result
        answers.append(result)
    return answers


def _cause(change: Change) -> Cause:
    # A copied click earns nobody anything; who was erased is forgotten there, too.
    return "import" if change.cause == "user" else change.cause


def _parts(changes: list[Change]) -> list[list[Change]]:
    return [changes[at : at + MAX_KEYS] for at in range(0, len(changes), MAX_KEYS)]


class _HasTargets(Protocol):
    async def targets(self, after: str, limit: int) -> tuple[list[Name], str]: ...


async def _each_page(store: _HasTargets, do: Callable[[list[Name]], Awaitable[None]]) -> None:
    after, is_first = "", True
    while after or is_first:
        is_first = False
        names, after = await store.targets(after, _TARGETS)
        await do(names)


async def _counts(
    counted: Callable[[Sequence[str], str], Awaitable[list[Count]]], names: list[Name]
) -> dict[Name, int]:
    found: dict[Name, int] = {}
    by_kind = sorted(set(names), key=lambda name: name[1])
    for kind, group in groupby(by_kind, key=lambda name: name[1]):
        target_ids = [target_id for target_id, _ in group]
        for at in range(0, len(target_ids), _TARGETS):
            for count in await counted(target_ids[at : at + _TARGETS], kind):
                found[count.target_id, kind] = count.count
    return found
