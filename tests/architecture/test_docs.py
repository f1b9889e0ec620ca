"""The docs say what the code says: pages made from it are current, and nothing is left out."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


build = _load(ROOT / "docs" / "build.py")


@pytest.mark.parametrize("name", build.PAGES)
def test_the_reference_pages_are_what_the_code_says(name: str) -> None:
    assert (build.REFERENCE / name).read_text() == build.PAGES[name](), "run `python docs/build.py`"


def test_every_setting_has_a_meaning() -> None:
    without = [path for path, _, _, doc in build._tables(build.Settings, "") if not doc]

    assert without == []


def test_every_error_code_is_in_the_reference_and_the_reference_has_no_others() -> None:
    listed = set(re.findall(r"^\| `(\w+)` \|", (build.REFERENCE / "errors.md").read_text(), re.MULTILINE))

    assert listed == set(build.error_codes())


def test_every_relative_link_in_the_docs_leads_somewhere() -> None:
    pages = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
    pages += sorted((ROOT / "docs").rglob("*.md"))
    dead = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
        if not (page.parent / target).exists()
    ]

    assert dead == []


def test_the_readme_shows_the_figures_that_were_measured() -> None:
    from benchmarks import book

    readme = (ROOT / "README.md").read_text()

    assert readme == book.with_figures(readme), "run `python -m benchmarks --docs`"


def test_the_book_of_benchmarks_says_what_was_measured() -> None:
    from benchmarks import book

    assert (ROOT / "docs" / "benchmarks.md").read_text() == book.book(), "run `python -m benchmarks --docs`"
