"""Feedback from files: taken once, with bad lines named and the rest imported."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from click.testing import CliRunner

from heartcast.cli.ranking import ranking
from heartcast.ranking.feedback import Feedback
from heartcast.ranking.store.sqlite import FILE_NAME, SqliteRankingStore

CSV = """type,user_id,item_id,at_ms,value,propensity
exposure,ann,post_1,1700000000000,,0.25
click,12,post_1,1700000000001,,
watch,ann,"a,b",1700000000002,12.5,
"""
JSONL = """{"type":"exposure","user_id":"ann","item_id":"post_1","at_ms":1700000000000,"propensity":0.25}

{"type":"click","user_id":12,"item_id":"post_1","at_ms":1700000000001}
{"type":"watch","user_id":"ann","item_id":"a,b","at_ms":1700000000002,"value":12.5}
"""


def run(tmp_path: Path, name: str, text: str):
    file = tmp_path / name
    file.write_text(text)
    command = ["import", str(file), "--data-dir", str(tmp_path / "data"), "--json"]
    return CliRunner().invoke(ranking, command)


def log(tmp_path: Path) -> list[Feedback]:
    async def read() -> list[Feedback]:
        store = SqliteRankingStore(tmp_path / "data" / FILE_NAME, asyncio.get_running_loop())
        events = [event for piece in store.feedback() for event in piece]
        await store.close()
        return events

    return asyncio.run(read())


def test_csv_and_json_lines_say_the_same_and_count_once(tmp_path: Path) -> None:
    first, second = run(tmp_path, "a.csv", CSV), run(tmp_path, "b.jsonl", JSONL)

    assert json.loads(first.stdout) == {"taken": 3, "repeated": 0, "bad": 0}
    assert json.loads(second.stdout) == {"taken": 0, "repeated": 3, "bad": 0}
    assert [(event.kind.value, event.user_id, event.value) for event in log(tmp_path)] == [
        ("exposure", "ann", 0.0),
        ("click", "12", 0.0),
        ("watch", "ann", 12.5),
    ]
    assert log(tmp_path)[0].propensity == 0.25


def test_bad_lines_are_named_and_the_rest_is_imported(tmp_path: Path) -> None:
    text = (
        CSV
        + "smell,ann,post_1,,,\nclick,ann,post_1,soon,,\nclick,ann,post_2,,,,surplus\nclick,ann,post_3,,,\n"
    )
    file = tmp_path / "a.csv"
    file.write_text(text)

    done = CliRunner().invoke(ranking, ["import", str(file), "--data-dir", str(tmp_path / "data")])

    assert done.exit_code == 2
    assert "4 events taken, 0 were there already, 3 bad lines" in done.stdout
    assert "line 5: /type" in done.stderr
    assert "line 6: /at_ms" in done.stderr
    assert "line 7: /None" in done.stderr
