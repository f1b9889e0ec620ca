"""Hearts from files: CSV with any delimiter, or JSON Lines.

Reading is a generator of rows and bad lines; writing sends the rows to a store in
calls of 500, several of which are under way at once, or in transactions of 20,000 where the
store takes these. A bad line is reported with its
number and never stops the others. An import may be repeated: hearts that are there
stay as they are.
"""

from __future__ import annotations

import asyncio
import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol, runtime_checkable

import msgspec

from heartcast.core.errors import InvalidInput, StoreUnavailable
from heartcast.core.names import check_id, user_text
from heartcast.hearts.model import KIND, HeartKey, Outcome
from heartcast.hearts.store import MAX_KEYS, HeartStore

MAX_ROWS = 20_000
"""Hearts in one transaction where the store takes these. Twice as many gained nothing."""
_MAX_CALLS = 16
"""Calls under way at once: 8,000 hearts a commit, after which longer groups gain nothing."""
_SMALLEST_MS = 100_000_000_000
"""Numbers below are seconds (to the year 5138), others milliseconds (from 1973)."""
_MAX_S = 253_402_300_799
"""The end of the year 9999, the last that a timestamp can show."""


class Columns(msgspec.Struct, frozen=True, kw_only=True):
    """Where a heart's parts are: names of the header or of JSON fields, or numbers from 1."""

    target: str = "target_id"
    user: str = "user_id"
    kind: str | None = None
    """None: every heart is of the kind ``heart``."""
    time: str | None = None
    """Seconds or milliseconds since 1970, or RFC 3339. None: the time of the import."""
    value: str | None = None
    """A number, such as a rating; lines with less than ``min_value`` are left out."""
    min_value: float = 0.0


class Row(NamedTuple):
    """A line that is a heart."""

    key: HeartKey
    created_ms: int


class BadLine(NamedTuple):
    """A line that is not."""

    number: int
    """Line number, from 1; of a record over several lines, its last."""
    reason: str


class LeftOut(NamedTuple):
    """A line whose value is below the minimum."""

    number: int


class Summary(msgspec.Struct):
    """What an import did."""

    lines: int = 0
    added: int = 0
    already_there: int = 0
    left_out: int = 0
    bad: int = 0


Line = Row | BadLine | LeftOut


def read_csv(
    file: Iterable[str],
    columns: Columns,
    *,
    now_ms: int,
    delimiter: str = ",",
    has_header: bool = True,
    check_kind: Callable[[str], str] = check_id,
) -> Iterator[Line]:
    """Read delimited text.

    Args:
        file: Lines with their ends. Bytes that are not UTF-8 come as lone surrogates, so that they
            spoil their own line only.
        now_ms: Creation time of hearts when there is no time column.
        delimiter: One character.
        has_header: Whether the first line names the columns.
        check_kind: Returns a kind that may be given; raises ``InvalidInput`` otherwise.

    Raises:
        InvalidInput: a column is not there.
    """
    reader = csv.reader(file, delimiter=delimiter)
    header = next(reader, []) if has_header else []
    places = {name: at for at, name in enumerate(header)}
    parse = _Parser(columns, now_ms, check_kind, lambda name: _place(name, places, header))
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield BadLine(reader.line_num, str(error))
            continue
        if fields:
            yield parse(fields, reader.line_num)


def _place(name: str, places: dict[str, int], header: list[str]) -> int:
    if name in places:
        return places[name]
    if name.isascii() and name.isdigit() and int(name) > 0:
        return int(name) - 1
    known = f"the header has: {', '.join(header)[:200]}" if header else "without a header give its number"
    raise InvalidInput(f"there is no column {name!r}; {known}", code="unknown_column")


def read_jsonl(
    file: Iterable[bytes], columns: Columns, *, now_ms: int, check_kind: Callable[[str], str] = check_id
) -> Iterator[Line]:
    """Read one JSON object per line; empty lines are skipped. Arguments as in ``read_csv``."""
    decode = msgspec.json.Decoder(dict[str, object]).decode
    parse = _Parser(columns, now_ms, check_kind, lambda name: name)
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            fields = decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            yield BadLine(number, f"not a JSON object: {error}")
            continue
        yield parse(fields, number)


class _Parser:
    """Turns a record, by places in a list or by names in an object, into a line."""

    def __init__(
        self,
        columns: Columns,
        now_ms: int,
        check_kind: Callable[[str], str],
        place: Callable[[str], int | str],
    ) -> None:
        self._check_kind = check_kind
        self._target = place(columns.target)
        self._user = place(columns.user)
        self._kind = None if columns.kind is None else place(columns.kind)
        self._time = None if columns.time is None else place(columns.time)
        self._value = None if columns.value is None else place(columns.value)
        self._min = columns.min_value
        self._now_ms = now_ms

    def __call__(self, fields: Any, number: int) -> Line:
        try:
            # `not >=`, so that nan is left out as well.
            if self._value is not None and not float(fields[self._value]) >= self._min:
                return LeftOut(number)
            return self._row(fields)
        except (IndexError, KeyError) as error:
            missing = error.args[0] if isinstance(error, KeyError) else f"it has {len(fields)}"
            return BadLine(number, f"a column is missing: {missing}")
        except InvalidInput as error:
            name = error.pointer.lstrip("/")
            return BadLine(number, f"{name}: {error.detail}" if name else error.detail)
        except (TypeError, ValueError, OverflowError) as error:
            return BadLine(number, str(error))

    def _row(self, fields: Any) -> Row:
        key = HeartKey(
            check_id(_text(fields[self._target]), "/target_id"),
            user_text(_text(fields[self._user])),
            KIND if self._kind is None else self._check_kind(_text(fields[self._kind])),
        )
        return Row(key, self._now_ms if self._time is None else _time_ms(fields[self._time]))


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise InvalidInput(f"an id must be text or a whole number, got {type(value).__name__}")


def _time_ms(value: object) -> int:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return _rfc3339_ms(str(value))
    seconds = number if abs(number) < _SMALLEST_MS else number / 1000
    if not 0 <= seconds <= _MAX_S:
        raise ValueError(f"not a time between 1970 and 9999: {value!r}")
    return round(seconds * 1000)


def _rfc3339_ms(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"not a time: {text[:40]!r}") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return _time_ms(moment.timestamp())


@runtime_checkable
class TakesMany(Protocol):
    """A store that takes many hearts at once when nobody asks for each outcome."""

    async def offer(self, keys: Sequence[HeartKey], times_ms: Sequence[int]) -> int: ...


class Import:
    """Writes lines into a store.

    Args:
        bad: Told of every bad line.
        progress: Told of the number of lines done so far, about once per 500 or 20,000.
    """

    def __init__(
        self, store: HeartStore, *, bad: Callable[[BadLine], None], progress: Callable[[int], None]
    ) -> None:
        self._store = store
        self._size = MAX_ROWS if isinstance(store, TakesMany) else MAX_KEYS
        self._bad = bad
        self._progress = progress
        self._calls = asyncio.Semaphore(_MAX_CALLS)
        self._failure: StoreUnavailable | None = None
        self._offered: asyncio.Future[None] | None = None
        self.summary = Summary()

    async def run(self, lines: Iterable[Line]) -> Summary:
        """Import everything.

        Raises:
            StoreUnavailable: the store failed; what was written before stays.
        """
        rows: list[Row] = []
        for line in lines:
            self.summary.lines += 1
            if type(line) is Row:
                rows.append(line)
                if len(rows) == self._size:
                    await self._send(rows)
                    rows = []
            elif isinstance(line, BadLine):
                self.summary.bad += 1
                self._bad(line)
            else:
                self.summary.left_out += 1
        if rows:
            await self._send(rows)
        for _ in range(_MAX_CALLS):
            await self._calls.acquire()
        if self._offered is not None:
            await self._offered
        self._check()
        return self.summary

    async def _send(self, rows: list[Row]) -> None:
        if isinstance(self._store, TakesMany):
            await self._offer(self._store, rows)
            self._progress(self.summary.lines)
            return
        await self._calls.acquire()
        self._check()
        self._store.load([row.key for row in rows], [row.created_ms for row in rows], self._done)
        self._progress(self.summary.lines)

    async def _offer(self, store: TakesMany, rows: list[Row]) -> None:
        # The next rows are read while these are written, and no more than that.
        if self._offered is not None:
            await self._offered
        self._offered = asyncio.ensure_future(self._offer_now(store, rows))

    async def _offer_now(self, store: TakesMany, rows: list[Row]) -> None:
        added = await store.offer([row.key for row in rows], [row.created_ms for row in rows])
        self.summary.added += added
        self.summary.already_there += len(rows) - added

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _done(self, result: list[Outcome] | StoreUnavailable) -> None:
        self._calls.release()
        if isinstance(result, StoreUnavailable):
            self._failure = result
            return
        added = sum(outcome.changed for outcome in result)
        self.summary.added += added
        self.summary.already_there += len(result) - added
