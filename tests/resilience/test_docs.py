"""What the pages say is what the code does."""

import re
from pathlib import Path

import msgspec
import pytest

from heartcast.resilience import Backoff, BreakerPolicy, GatePolicy, ShedPolicy, TimeoutPolicy

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("policy", [BreakerPolicy, GatePolicy, Backoff, TimeoutPolicy, ShedPolicy])
def test_every_default_is_in_the_table(policy: type[msgspec.Struct]) -> None:
    text = (DOCS / "reference" / "resilience-defaults.md").read_text()
    section = text.split(f"## {policy.__name__}\n")[1].split("\n## ")[0]
    written = dict(re.findall(r"^\| `(\w+)` \| `(.*?)` \|", section, re.MULTILINE))

    assert written == {field.name: repr(field.default) for field in msgspec.structs.fields(policy)}


def test_every_fault_that_is_listed_has_its_test_and_the_other_way_round() -> None:
    listed = re.findall(
        r"^\| (\d+) \| (.+) \|$", (DOCS / "explanation" / "resilience.md").read_text(), re.MULTILINE
    )
    source = (Path(__file__).parent / "test_article_faults.py").read_text()
    tests = re.findall(r"def test_(\d\d)_(\w+)\(", source)

    assert sorted((int(number), words) for number, words in listed) == sorted(
        (int(number), name.replace("_", " ")) for number, name in tests
    )


def test_the_how_tos_examples_run() -> None:
    text = (DOCS / "how-to" / "resilience.md").read_text()
    blocks = [
        block.split("```")[0]
        for before, block in zip(text.split("```python\n"), text.split("```python\n")[1:], strict=False)
        if "skip: next" not in before.split("```")[-1]
    ]
    assert len(blocks) >= 5
    for block in blocks:
        exec(compile(block, "resilience.md", "exec"), {})
