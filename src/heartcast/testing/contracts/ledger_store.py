"""What every ``LedgerStore`` must keep, one test per guarantee of its docstring.

    class TestMyLedger(LedgerStoreContract):
        async def open(self, folder): return MyLedger(folder)

``folder`` is the same for every opening within one test.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from pathlib import Path

from heartcast.hearts.ledger import Account, Award, AwardKey, Bookings, Books, Entry, LedgerStore, Place

KEY = AwardKey("u 1\u00fc", "post|1", "heart")
FIRST = Place("00ff00ff00ff00ff", 7)


def entry(number: int) -> Entry:
    """An entry not yet written, with ``number`` points."""
    return Entry(0, "post", "heart", number, "award", 1_000 + number, f"e-{number}")


def of(*users: str, first: int = 0) -> Bookings:
    """An award, an account and two entries of each of these users."""
    return Bookings(
        awards={AwardKey(user, "post", "heart"): Award(1, 5) for user in users},
        accounts={user: Account(first + 1, 20_000, 1) for user in users},
        entries=[(user, entry(first + at)) for at in range(2) for user in users],
    )


class LedgerStoreContract(ABC):
    """Inherit, say how to open your ledger, and run."""

    @abstractmethod
    async def open(self, folder: Path) -> LedgerStore:
        """A ledger over what is in the folder; the test closes it."""

    async def test_1_books_and_place_are_written_together_and_stay(self, tmp_path: Path) -> None:
        ledger = await self.open(tmp_path)
        assert await ledger.place() is None
        assert await ledger.read([KEY], [KEY.user_id]) == Books({}, {})
        assert await ledger.account(KEY.user_id) == Account()
        award, account = Award(3, 1_790_000_000_000, True), Account(-2, 20_717, 3)
        booked = Bookings(
            awards={KEY: award}, accounts={KEY.user_id: account}, entries=[(KEY.user_id, entry(3))]
        )
        assert await ledger.write(None, FIRST, booked)
        await ledger.close()

        again = await self.open(tmp_path)
        assert await again.place() == FIRST
        other = KEY._replace(kind="star")
        assert await again.read([KEY, other], [KEY.user_id, "x"]) == Books(
            {KEY: award}, {KEY.user_id: account}
        )
        assert await again.account(KEY.user_id) == account
        [kept] = await again.entries(KEY.user_id, 0, 10)
        assert (kept.target_id, kept.points, kept.reason, kept.event) == ("post", 3, "award", "e-3")
        changed = Bookings(awards={KEY: Award(3, 9)}, accounts={KEY.user_id: Account(5, 20_718, 5)})
        assert await again.write(FIRST, Place("other", 1), changed)
        assert (await again.read([KEY], [])).awards == {KEY: Award(3, 9)}
        assert await again.account(KEY.user_id) == Account(5, 20_718, 5)
        assert await again.place() == ("other", 1)
        await again.close()

    async def test_2_from_another_place_nothing_is_changed(self, tmp_path: Path) -> None:
        ledger = await self.open(tmp_path)
        assert not await ledger.write(FIRST, Place("a", 8), of("u1"))
        assert await ledger.write(None, FIRST, of("u1"))
        for before in (None, Place(FIRST.epoch, 8), Place("other", 7)):
            assert not await ledger.write(before, Place("a", 9), of("u1", first=10))
        assert await ledger.place() == FIRST
        assert await ledger.account("u1") == Account(1, 20_000, 1)
        assert len(await ledger.entries("u1", 0, 10)) == 2
        await ledger.close()

    async def test_2_of_many_writers_from_one_place_one_writes(self, tmp_path: Path) -> None:
        ledger = await self.open(tmp_path)
        before: Place | None = None
        for turn in range(1, 6):
            after = Place("e", turn)
            async with asyncio.TaskGroup() as group:
                asked = [group.create_task(ledger.write(before, after, of(f"u{turn}"))) for _ in range(8)]
            assert sorted(task.result() for task in asked) == [False] * 7 + [True]
            assert len(await ledger.entries(f"u{turn}", 0, 10)) == 2
            before = after
        await ledger.close()

    async def test_3_of_whoever_is_erased_only_what_comes_with_it_is_left(self, tmp_path: Path) -> None:
        ledger = await self.open(tmp_path)
        await ledger.write(None, FIRST, of("u1", "u2", "u3"))
        anew = of("u2", first=50)
        anew.erased = {"u1", "u2", "nobody"}
        assert await ledger.write(FIRST, Place("e", 8), anew)

        keys = [AwardKey(f"u{user}", "post", "heart") for user in (1, 2, 3)]
        left = await ledger.read(keys, ["u1", "u2", "u3"])
        assert set(left.awards) == set(keys[1:])
        assert left.accounts == {"u2": Account(51, 20_000, 1), "u3": Account(1, 20_000, 1)}
        assert await ledger.entries("u1", 0, 10) == []
        assert [one.points for one in await ledger.entries("u2", 0, 10)] == [51, 50]
        await ledger.close()

    async def test_4_entries_come_newest_first_in_pages_without_gap_or_double(self, tmp_path: Path) -> None:
        ledger = await self.open(tmp_path)
        before: Place | None = None
        for turn in range(5):
            assert await ledger.write(before, Place("e", turn), of("u1", "u2", first=2 * turn))
            before = Place("e", turn)
        seen: list[Entry] = []
        while page := await ledger.entries("u1", seen[-1].number if seen else 0, 3):
            seen += page
        assert [one.points for one in seen] == list(range(9, -1, -1))
        numbers = [one.number for one in seen]
        assert numbers == sorted(set(numbers), reverse=True)
        await ledger.close()
