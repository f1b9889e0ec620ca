"""What users want: which routes and categories, and when they want quiet.

Preferences are a small document per user, replaced as a whole and known by a tag of its
content, so that two editors cannot overwrite each other without noticing. A user who never
said anything has the empty document, which allows everything.

Quiet hours are windows of local time. ``22:00`` to ``07:00`` goes over midnight; ``days``
are those on which a window *begins*. Where a clock change makes a local time happen twice,
the window covers both; where it leaves one out, the time that the clock shows instead counts.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from datetime import date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from heartcast.core.errors import InvalidInput
from heartcast.core.hashing import hash64
from heartcast.push.journal import Note
from heartcast.push.template import check_locale

KIND = "p:"
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MAX_WINDOWS = 14
MAX_FREQUENCY = 1_000
_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)").fullmatch


class Window(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """From one local time to another."""

    start: str
    """``HH:MM``."""
    end: str
    """``HH:MM``; at or before ``start`` it is on the next day."""
    days: list[Day] | None = None
    """Days on which it begins; null: every day."""


class QuietHours(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """When only critical pushes may come."""

    zone: str
    """An IANA time zone, like ``Europe/Berlin``."""
    windows: list[Window]
    mode: Literal["defer", "drop", "digest"] = "defer"
    """``defer``: pushes wait for the end; ``digest``: and come as one then; ``drop``: they are
    suppressed."""


class Frequency(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How many pushes at most; null: any number. Critical ones are not counted."""

    per_hour: int | None = None
    """In any sixty minutes, 1 to 1,000."""
    per_day: int | None = None
    """In any 24 hours, 1 to 1,000."""
    mode: Literal["suppress", "defer"] = "suppress"
    """``suppress``: one too many ends; ``defer``: it waits until it fits."""


class Preferences(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The document. What is not mentioned is allowed."""

    routes: dict[str, bool] = {}
    """Ways out, like ``{"realtime": false}``."""
    categories: dict[str, bool] = {}
    """Categories, like ``{"marketing": false}``."""
    quiet_hours: QuietHours | None = None
    frequency: Frequency | None = None
    locale: str | None = None
    """Language tag of the user, like ``de`` or ``pt-BR``; null: templates speak their base."""


class Quiet:
    """Quiet hours, ready to be asked."""

    __slots__ = ("_windows", "_zone", "digests", "drops")

    def __init__(
        self,
        zone: ZoneInfo,
        windows: list[tuple[time, time, frozenset[int]]],
        *,
        drops: bool = False,
        digests: bool = False,
    ) -> None:
        self._zone = zone
        self._windows = windows
        self.drops = drops
        self.digests = digests

    def until_ms(self, now_ms: int) -> int | None:
        """Wall time at which quiet ends; None: it is not quiet now.

        Windows that meet or overlap are one; a week of nothing but quiet ends after a week.
        """
        until_ms = self._end_ms(now_ms)
        if until_ms is None:
            return None
        for _ in range(MAX_WINDOWS * 2):
            later_ms = self._end_ms(until_ms)
            if later_ms is None or later_ms - now_ms > 7 * 86_400_000:
                break
            until_ms = later_ms
        return until_ms

    def _end_ms(self, now_ms: int) -> int | None:
        """The latest end of the windows that are open now; None: none is."""
        today = datetime.fromtimestamp(now_ms / 1000, self._zone).date()
        ends = []
        # A window that began yesterday may still be open.
        for day in (today - timedelta(days=1), today):
            for start, end, days in self._windows:
                if day.weekday() not in days:
                    continue
                end_day = day if end > start else day + timedelta(days=1)
                start_ms = self._at(day, start, fold=0)
                end_ms = self._at(end_day, end, fold=1)
                if start_ms <= now_ms < end_ms:
                    ends.append(end_ms)
        return max(ends, default=None)

    def _at(self, day: date, at: time, *, fold: int) -> int:
        # fold: of a local time that happens twice, a window begins with the first and ends with
        # the last. For one that does not happen it would pick the wrong side of the gap.
        local = datetime.combine(day, at, self._zone)
        later = local.replace(fold=fold)
        is_gap = local.replace(fold=1).utcoffset() > local.utcoffset()  # type: ignore[operator]
        return round((local if is_gap else later).timestamp() * 1000)


class Wishes(msgspec.Struct, frozen=True):
    """Preferences, ready for the gates."""

    document: Preferences
    tag: str
    routes_off: frozenset[str]
    categories_off: frozenset[str]
    quiet: Quiet | None


_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(Preferences).decode


def zone_named(name: str, pointer: str) -> ZoneInfo:
    """The time zone of this name.

    Raises:
        InvalidInput: there is none (code ``unknown_zone``).
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        # OSError: names of folders, and names that are too long for the file system.
        raise InvalidInput(
            f"there is no time zone {name[:100]!r}; use an IANA name like Europe/Berlin",
            pointer=pointer,
            code="unknown_zone",
        ) from error


def wishes_of(document: Preferences) -> Wishes:
    """Check a document and make it ready.

    Raises:
        InvalidInput: a zone or a time does not exist; the pointer says where.
    """
    quiet = _quiet(document.quiet_hours) if document.quiet_hours else None
    if document.frequency is not None:
        _check_frequency(document.frequency)
    if document.locale is not None:
        check_locale(document.locale, "/locale")
    return Wishes(
        document,
        f'"{hash64(_encode(document).decode()):016x}"',
        frozenset(name for name, is_on in document.routes.items() if not is_on),
        frozenset(name for name, is_on in document.categories.items() if not is_on),
        quiet,
    )


def _check_frequency(frequency: Frequency) -> None:
    if frequency.per_hour is None and frequency.per_day is None:
        raise InvalidInput("must say per_hour, per_day or both", pointer="/frequency")
    for name, most in (("per_hour", frequency.per_hour), ("per_day", frequency.per_day)):
        if most is not None and not 1 <= most <= MAX_FREQUENCY:
            raise InvalidInput(
                f"must be from 1 to {MAX_FREQUENCY}; switch a route off for none",
                pointer=f"/frequency/{name}",
            )


def _quiet(hours: QuietHours) -> Quiet:
    zone = zone_named(hours.zone, "/quiet_hours/zone")
    if not 1 <= len(hours.windows) <= MAX_WINDOWS:
        raise InvalidInput(f"must hold 1 to {MAX_WINDOWS} windows", pointer="/quiet_hours/windows")
    windows = []
    for index, window in enumerate(hours.windows):
        at = f"/quiet_hours/windows/{index}"
        start, end = _time(window.start, f"{at}/start"), _time(window.end, f"{at}/end")
        days = frozenset(DAYS.index(day) for day in (DAYS if window.days is None else window.days))
        if not days:
            raise InvalidInput("must name at least one day; leave it out for all", pointer=f"{at}/days")
        windows.append((start, end, days))
    return Quiet(zone, windows, drops=hours.mode == "drop", digests=hours.mode == "digest")


def _time(text: str, pointer: str) -> time:
    found = _TIME(text)
    if found is None:
        raise InvalidInput(f"must be a time like 22:00, got {text[:20]!r}", pointer=pointer)
    return time(int(found[1]), int(found[2]))


EMPTY = wishes_of(Preferences())


class PreferenceBook:
    """Everyone's preferences."""

    def __init__(self) -> None:
        self._wishes: dict[str, Wishes] = {}
        self.said: Container[str] = self._wishes
        """Users who said something."""
        self.find = self._wishes.get
        """``find(user)``: what the user wishes, or None when nothing was ever said."""

    def of(self, user: str) -> Wishes:
        """What the user wishes, or the empty document."""
        return self._wishes.get(user, EMPTY)

    def put(self, user: str, wishes: Wishes | None) -> None:
        """What the user wishes from now on; None: nothing, as if nothing was ever said."""
        if wishes is None:
            self._wishes.pop(user, None)
        else:
            self._wishes[user] = wishes

    def restore(self, notes: Iterable[Note]) -> None:
        for note in notes:
            self._wishes[note.key.removeprefix(KIND)] = wishes_of(_decode(note.value or b"{}"))


def preference_note(user: str, document: Preferences | None) -> Note:
    """The document as it is kept; None: there is none any more."""
    return Note(KIND + user, None if document is None else _encode(document))
