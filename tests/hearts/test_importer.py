import asyncio
import json
import random
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from heartcast.cli.hearts import hearts
from heartcast.core.clock import SystemClock
from heartcast.core.errors import InvalidInput, StoreUnavailable
from heartcast.hearts.importer import BadLine, Columns, LeftOut, Row, read_csv, read_jsonl
from heartcast.hearts.model import Count, HeartKey
from heartcast.hearts.store.awaiting import Awaiting
from heartcast.hearts.store.sqlite import SqliteHeartStore
from heartcast.testing.contracts.heart_store import all_events


def csv_of(text: str, columns: Columns | None = None, **options: object) -> list[object]:
    return list(read_csv(text.splitlines(keepends=True), columns or Columns(), now_ms=7, **options))  # type: ignore[arg-type]


def test_columns_are_found_by_the_names_of_the_header() -> None:
    assert csv_of("user_id,x,target_id\nu1,,p1\n\n12,,p2\n") == [
        Row(HeartKey("p1", "u1"), 7),
        Row(HeartKey("p2", "12"), 7),
    ]


def test_columns_are_found_by_number_without_a_header_and_with_any_delimiter() -> None:
    columns = Columns(target="2", user="1", value="3", min_value=4, time="4")
    assert csv_of(
        "1\t9\t4\t881250949\n2\t9\t3\t1\n3\t9\tnan\t1\n", columns, delimiter="\t", has_header=False
    ) == [
        Row(HeartKey("9", "1"), 881_250_949_000),
        LeftOut(2),
        LeftOut(3),
    ]


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1700000000", 1_700_000_000_000),
        ("1700000000.5", 1_700_000_000_500),
        ("1700000000123", 1_700_000_000_123),
        ("2023-11-14T22:13:20.5Z", 1_700_000_000_500),
        ("2023-11-15T00:13:20+02:00", 1_700_000_000_000),
        ("2023-11-14 22:13:20", 1_700_000_000_000),
    ],
)
def test_times_are_seconds_milliseconds_or_rfc_3339(text: str, ms: int) -> None:
    [row] = csv_of(f"target_id,user_id,at\np,u,{text}\n", Columns(time="at"))
    assert row == Row(HeartKey("p", "u"), ms)


@pytest.mark.parametrize(
    "line",
    [
        "p,,1",
        "p",
        ",u,1",
        "p,u,yesterday",
        "p,u,-5",
        "p,u,inf",
        "p,u,1e300",
        f"{'p' * 201},u,1",
        "p\x07,u,1",
        "p\udcff,u,1",
    ],
)
def test_a_bad_line_is_reported_with_its_number_and_the_rest_is_read(line: str) -> None:
    text = f"target_id,user_id,at\ngood,u,1\n{line}\ngood,v,1\n"
    first, bad, last = csv_of(text, Columns(time="at"))
    assert isinstance(bad, BadLine)
    assert bad.number == 3
    assert bad.reason
    assert [type(first), type(last)] == [Row, Row]


def test_a_quote_that_is_never_closed_is_a_bad_line_and_not_silence() -> None:
    found = csv_of('target_id,user_id\ngood,u\n"open,u\nmore,u\n')
    assert [type(line) for line in found] == [Row, BadLine]


def test_a_column_that_is_not_there_is_refused_at_once() -> None:
    with pytest.raises(InvalidInput, match="there is no column 'item'; the header has: target_id"):
        csv_of("target_id,user_id\np,u\n", Columns(target="item"))
    with pytest.raises(InvalidInput, match="without a header give its number"):
        csv_of("p,u\n", has_header=False)


def test_json_lines_are_read_with_their_types() -> None:
    text = b"""{"target_id": "p", "user_id": 5, "kind": "clap", "more": null}
[1]

{"target_id": "p", "user_id": true}
{"target_id": "p"}
{"target_id": "p", "user_id": "\xff"}
{"target_id": "p", "user_id": "u"}"""
    found = list(read_jsonl(text.splitlines(), Columns(), now_ms=7))
    assert [line.number for line in found if isinstance(line, BadLine)] == [2, 4, 5, 6]
    assert [line for line in found if isinstance(line, Row)] == [
        Row(HeartKey("p", "5"), 7),
        Row(HeartKey("p", "u"), 7),
    ]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(hearts, ["import", *map(str, arguments)])


def counts_in(folder: Path, *targets: str) -> list[Count]:
    async def read() -> list[Count]:
        store = SqliteHeartStore(folder / "hearts.db", clock=SystemClock())
        try:
            return await Awaiting(store).counts(targets, "heart")
        finally:
            await store.close()

    return asyncio.run(read())


def test_the_command_imports_reports_and_may_be_repeated(tmp_path: Path) -> None:
    lines = [f"p{number % 3},u{number}" for number in range(1200)]
    lines[10:10] = [",nobody"] * 25
    (tmp_path / "hearts.csv").write_text("target_id,user_id\n" + "\n".join(lines) + "\n")
    arguments = (tmp_path / "hearts.csv", "--data-dir", tmp_path / "data", "--errors", tmp_path / "bad.tsv")

    first = run(*arguments)
    again = run(*arguments, "--json")

    assert first.exit_code == again.exit_code == 2
    assert first.stdout.startswith("1,200 hearts added, 0 were there already")
    assert "line 12: target_id: must not be empty" in first.stderr
    assert "and 5 more bad lines" in first.stderr
    assert len((tmp_path / "bad.tsv").read_text().splitlines()) == 25
    summary = json.loads(again.stdout)
    assert (summary["added"], summary["already_there"], summary["bad"]) == (0, 1200, 25)
    assert [count.count for count in counts_in(tmp_path / "data", "p0", "p1", "p2")] == [400, 400, 400]


def test_a_clean_import_exits_0_and_kinds_are_a_closed_list(tmp_path: Path) -> None:
    file = tmp_path / "hearts.jsonl"
    file.write_text('{"target_id":"p","user_id":1,"kind":"clap"}\n')

    assert run(file, "--data-dir", tmp_path / "a", "--kind-column", "kind").exit_code == 2
    assert run(file, "--data-dir", tmp_path / "b", "--kind-column", "kind", "--kind", "clap").exit_code == 0


async def test_an_import_is_refused_while_a_server_has_the_folder(tmp_path: Path) -> None:
    file = tmp_path / "hearts.csv"
    file.write_text("target_id,user_id\np,u\n")
    store = SqliteHeartStore(tmp_path / "hearts.db", clock=SystemClock())
    result = await asyncio.to_thread(run, file, "--data-dir", tmp_path)
    await store.close()

    assert result.exit_code == 1
    assert "is in use by another process" in result.stderr


def test_flags_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "hearts.csv"
    file.write_text("target_id,user_id\np,u\n")
    data = ("--data-dir", tmp_path / "data")

    assert "belong together" in run(file, *data, "--min", "4").stderr
    assert "one character" in run(file, *data, "--delimiter", "::").stderr
    assert "no column 'item'" in run(file, *data, "--target-column", "item").stderr


@pytest.mark.parametrize("keeps_events", [False, True])
async def test_many_offered_at_once_are_what_they_are_one_by_one(tmp_path: Path, keeps_events: bool) -> None:
    dice = random.Random(3)
    one = SqliteHeartStore(tmp_path / "one.db", clock=SystemClock(), keeps_events=True)
    many = SqliteHeartStore(tmp_path / "many.db", clock=SystemClock(), keeps_events=keeps_events)
    for _ in range(6):
        keys = [HeartKey(f"t{dice.randrange(9)}", f"u{dice.randrange(80)}", "heart") for _ in range(300)]
        keys += [HeartKey(f"t{dice.randrange(9)}", f"u{dice.randrange(80)}", "clap") for _ in range(100)]
        times = [dice.randrange(10**9) for _ in keys]
        outcomes = await Awaiting(one).load(keys, times)
        assert await many.offer(keys, times) == sum(outcome.changed for outcome in outcomes)
        # Between them, the usual way.
        gone = [HeartKey(f"t{dice.randrange(9)}", f"u{dice.randrange(80)}") for _ in range(60)]
        told = [await Awaiting(store).remove(gone, 7) for store in (one, many)]
        assert [(o.count, o.version, o.changed) for o in told[0]] == [
            (o.count, o.version, o.changed) for o in told[1]
        ]

    hearts = [
        {heart.key: heart.created_ms async for batch in store.scan() for heart in batch}
        for store in (one, many)
    ]
    assert hearts[0] == hearts[1]
    targets = [f"t{at}" for at in range(9)]
    for kind in ("heart", "clap"):
        assert await one.recount(targets, kind) == await many.recount(targets, kind)
        assert await Awaiting(one).counts(targets, kind) == await Awaiting(many).counts(targets, kind)
    told_of = [
        Counter((e.change.delta, e.change.target_id, e.change.user_id, e.change.kind) for e in page)
        for page in (await all_events(one), await all_events(many))
    ]
    assert told_of[1] == (told_of[0] if keeps_events else Counter())
    numbers = [event.number for event in await all_events(many)]
    assert numbers == list(range(1, len(numbers) + 1))
    for store in (one, many):
        await store.close()


async def test_an_offer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    store = SqliteHeartStore(tmp_path / "hearts.db", clock=SystemClock(), keeps_events=True)
    await Awaiting(store).add([HeartKey("post", "u1")], 1)
    with pytest.raises(StoreUnavailable):
        await store.offer([HeartKey("post", "u2"), HeartKey("new", "u2")], [1, None])  # type: ignore[list-item]

    assert await store.offer([HeartKey("post", "u1"), HeartKey("post", "u3")], [1, 2]) == 1
    assert await Awaiting(store).counts(["post", "new"], "heart") == [Count("post", 2, 2), Count("new", 0, 0)]
    assert (await store.events(0, 10)).last == 2
    await store.close()
