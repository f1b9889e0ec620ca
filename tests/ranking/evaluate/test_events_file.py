"""Tables of events as people have them."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from heartcast.cli.ranking import ranking
from heartcast.ranking.evaluate.events_file import read


def table(folder: Path, text: str) -> Path:
    path = folder / "events.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "user_id,item_id,rating,timestamp\nann,x,4,100\nann,y,2,200\nbob,x,4,150\n",
        "timestamp,uid,iid,rating\n100,ann,x,4\n200,ann,y,2\n150,bob,x,4\n",
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\nann\tx\t4\t100\nann\ty\t2\t200\nbob\tx\t4\t150\n",
        "ann\tx\t4\t100\nann\ty\t2\t200\nbob\tx\t4\t150\n",
    ],
    ids=["by name", "in any order", "with types", "by place"],
)
def test_columns_are_found(tmp_path: Path, text: str) -> None:
    events, has_times = read(table(tmp_path, text))
    assert has_times
    assert events.users.tolist() == [0, 0, 1]
    assert events.items.tolist() == [0, 1, 0]
    assert events.times_s.tolist() == [100, 200, 150]
    assert events.weights.tolist() == [1.0, 0.5, 1.0]


def test_a_pair_that_stands_there_twice_counts_once_and_at_its_newest_time(tmp_path: Path) -> None:
    events, _ = read(table(tmp_path, "user_id,item_id,timestamp\na,x,300\na,x,200\nb,x,100\n"))
    assert events.times_s.tolist() == [300, 100]


def test_milliseconds_are_told_by_their_size(tmp_path: Path) -> None:
    events, _ = read(table(tmp_path, "user_id,item_id,at_ms\na,x,1700000000123\na,y,1700000001123\n"))
    assert events.times_s.tolist() == [1_700_000_000, 1_700_000_001]


def test_without_times_all_have_the_same(tmp_path: Path) -> None:
    events, has_times = read(table(tmp_path, "uid,iid\n1,2\n2,2\n"))
    assert (has_times, len(set(events.times_s.tolist()))) == (False, 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "a column for the user"),
        ("user_id,rating\na,1\n", "a column for the user"),
        ("user_id,item_id\n", "no rows"),
        ("user_id,item_id,rating\na,x,nan\n", "row 1"),
        ("user_id,item_id,rating\na,x,1\na\n", "row 2"),
        ("user_id,item_id,timestamp\na,x,1e300\n", "row 1"),
        ("user_id,item_id,rating\na,x,0\n", "above 0"),
    ],
)
def test_what_is_no_table_is_refused_with_the_place(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read(table(tmp_path, text))


@pytest.mark.parametrize("has_times", [True, False])
def test_the_command_compares_recommenders_on_them(tmp_path: Path, has_times: bool) -> None:
    rows = [
        f"u{user},i{user % 3}-{(user + step) % 8}"
        + (f",{1_700_000_000 + 1000 * step + user}" if has_times else "")
        for user in range(60)
        for step in range(6)
    ]
    head = "user_id,item_id" + (",timestamp" if has_times else "")
    path = table(tmp_path, "\n".join([head, *rows]) + "\n")
    ran = CliRunner().invoke(ranking, ["eval", "--events", str(path)], catch_exceptions=False)
    assert ran.exit_code == 0
    assert "360 events of 60 users and 24 items" in ran.output
    assert "as served online" in ran.output
    assert ("newest event asked for" in ran.output) is has_times
    assert "nan" not in ran.output
