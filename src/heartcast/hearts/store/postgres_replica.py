"""Reading from a streaming replica without ever showing somebody an older state than this node answered.

Whatever this node writes is *recent* until the replica has it: reads about a recent user or target
go to the primary, all others to the replica. Which is which is not guessed by time. A task
asks the primary for the place of its log (LSN) and the replica how far it has replayed; once the
replica is past a place that was taken after a commit, that commit is no longer recent.

What other nodes wrote shows up when it is replayed. A replica that is later than ``replica_lag_s``
behind, does not answer, or is no replica any more is not read from until that is over. While the
primary does not answer nobody can say how late the replica is: reads go on as they were, since
nothing new is written either.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import takewhile
from typing import TypeVar

import structlog

from heartcast.backends.postgres import Connection
from heartcast.core.errors import SettingsError, StoreUnavailable
from heartcast.hearts.model import HeartKey
from heartcast.hearts.options import PostgresOptions
from heartcast.hearts.store.postgres_link import Link, Links

_MAX_RECENT = 100_000
"""Users and as many targets; beyond it everything counts as recent until the replica is there."""
_LOOK_S = 0.02
"""Between two looks while something is recent."""
_IDLE_LOOK_S = 0.25

_IDENTITY = "SELECT system_identifier FROM pg_control_system()"
"""The same on a primary and its replicas, and nowhere else."""

T = TypeVar("T")
_log = structlog.get_logger(__name__)


class Recent:
    """What was written and may not be on the replica yet. Pure.

    Writes are numbered by the groups they were committed in.
    """

    def __init__(self, most: int = _MAX_RECENT) -> None:
        self._most = most
        self._users: dict[str, int] = {}
        self._targets: dict[tuple[str, str], int] = {}
        self._all_until = 0
        self.group = 0
        """Number of the last group."""

    def note(self, keys: Iterable[HeartKey]) -> None:
        """These were written, as one group."""
        self.group += 1
        users, targets, group = self._users, self._targets, self.group
        for target_id, user_id, kind in keys:
            # Taken out first, so that they stand in the order of their groups.
            users.pop(user_id, None)
            users[user_id] = group
            targets.pop((target_id, kind), None)
            targets[target_id, kind] = group
        if len(users) > self._most or len(targets) > self._most:
            users.clear()
            targets.clear()
            self._all_until = group

    def forget(self, group: int) -> None:
        """The replica has this group and all before it."""
        _drop(self._users, group)
        _drop(self._targets, group)
        if group >= self._all_until:
            self._all_until = 0

    @property
    def is_empty(self) -> bool:
        return not (self._users or self._all_until)

    def has_user(self, user_id: str) -> bool:
        return self._all_until > 0 or user_id in self._users

    def has_target(self, target_ids: Sequence[str], kind: str) -> bool:
        """Whether any of these targets is recent."""
        if self._all_until:
            return True
        return any((target_id, kind) in self._targets for target_id in target_ids)


def _drop(recent: dict[T, int], group: int) -> None:
    gone = takewhile(lambda name: recent[name] <= group, recent)
    for name in list(gone):
        del recent[name]


class Replica:
    """Says what the replica may be asked, and asks it. Make it on a running loop and ``close`` it there."""

    def __init__(self, primary_dsn: str, options: PostgresOptions) -> None:
        self._max_lag_s = options.replica_lag_s
        self._primary = Link(primary_dsn, options.timeout_s)
        self._looking = Link(options.replica_dsn, options.timeout_s)
        self._asking = Link(options.replica_dsn, options.timeout_s)
        self._listing = Links(options.replica_dsn, options.timeout_s, options.readers)
        self._recent = Recent()
        self._wake = asyncio.Event()
        self._is_ours: bool | None = None
        """Whether it is of this primary; None: not asked yet."""
        self._mark: tuple[int, int, float] | None = None
        """A place in the primary's log that is not replayed yet, the last group before it, and when it was
        taken."""
        self.is_fit = False
        """Whether it answers, and is not too far behind."""
        self.lag_s = 0.0
        """How late it was when it was last seen."""
        self.reads = 0
        """Questions and lists that it answered."""
        self._task = asyncio.get_running_loop().create_task(self._follow(), name="hearts-replica")

    def note(self, keys: Iterable[HeartKey]) -> None:
        """These are written; called before anybody is answered."""
        self._recent.note(keys)
        self._wake.set()

    def may_tell(self, user_id: str | None, target_ids: Sequence[str], kind: str) -> bool:
        """Whether it knows all that this node has answered about this user, or else these targets."""
        if not self.is_fit:
            return False
        if user_id is not None:
            return not self._recent.has_user(user_id)
        return not self._recent.has_target(target_ids, kind)

    async def answer(self, query: Callable[[Connection], Awaitable[T]]) -> T | None:
        """Run a query that answers many callers; None: it could not, so ask the primary."""
        try:
            async with self._asking.use() as connection:
                answer = await query(connection)
        except (StoreUnavailable, SettingsError) as error:
            self._unfit(error.detail)
            return None
        self.reads += 1
        return answer

    async def list(self, query: Callable[[Connection], Awaitable[T]]) -> T | None:
        """As ``answer``, for lists."""
        try:
            found = await self._listing.ask(query)
        except StoreUnavailable as error:
            self._unfit(error.detail)
            return None
        self.reads += 1
        return found

    async def _follow(self) -> None:
        while True:
            try:
                await self._look()
            except (StoreUnavailable, SettingsError) as error:
                self._unfit(error.detail)
            except Exception as error:
                _log.exception("replica_fault")
                self._unfit(type(error).__name__)
            self._wake.clear()
            if self._recent.is_empty:
                await self._wait(_IDLE_LOOK_S)
            else:
                await asyncio.sleep(_LOOK_S)

    async def _wait(self, longest_s: float) -> None:
        try:
            async with asyncio.timeout(longest_s):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        if self._mark is None:
            group, taken_s = self._recent.group, loop.time()
            try:
                async with self._primary.use() as connection:
                    place = await connection.fetchval("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
            except (StoreUnavailable, SettingsError):
                return
            self._mark = (int(place), group, taken_s)
        place, group, taken_s = self._mark
        async with self._looking.use() as connection:
            is_replica, replayed = await connection.fetchrow(
                "SELECT pg_is_in_recovery(), coalesce(pg_last_wal_replay_lsn(), '0/0') - '0/0'::pg_lsn"
            )
        if not is_replica or not await self._is_of_primary():
            self._unfit("it is no replica of this primary (any more)")
            return
        self.lag_s = loop.time() - taken_s
        if replayed >= place:
            self._recent.forget(group)
            self._mark = None
            self._fit()
        elif self.lag_s > self._max_lag_s:
            self._unfit(f"it is {self.lag_s:.1f} s behind")

    async def _is_of_primary(self) -> bool:
        if self._is_ours is None:
            async with self._looking.use() as connection:
                theirs = await connection.fetchval(_IDENTITY)
            async with self._primary.use() as connection:
                self._is_ours = await connection.fetchval(_IDENTITY) == theirs
        return self._is_ours

    def _fit(self) -> None:
        if not self.is_fit:
            self.is_fit = True
            _log.info("hearts_read_from_replica")

    def _unfit(self, reason: str) -> None:
        if self.is_fit:
            self.is_fit = False
            _log.warning("hearts_not_read_from_replica", reason=reason)

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        for link in (self._primary, self._looking, self._asking, self._listing):
            await link.close()
