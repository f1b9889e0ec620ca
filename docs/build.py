"""Writes the reference pages that repeat what the code says: settings, metrics, errors, commands.

python docs/build.py           write them
python docs/build.py --check   exit 1 when one of them is not what would be written
"""

from __future__ import annotations

import ast
import inspect
import itertools
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from heartcast.api.problems import problem
from heartcast.app.settings import PREFIX, Settings
from heartcast.cli import _heartcast
from heartcast.core import errors
from heartcast.observability.metrics import CATALOGUE

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "reference"
SOURCE = ROOT / "src" / "heartcast"
_NOTE = "<!-- Written by docs/build.py from the code; do not edit. -->"


def _field_docs(struct: type) -> dict[str, str]:
    """The string under each field of a class, which Python itself does not keep."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(struct)))
    body = tree.body[0].body  # type: ignore[attr-defined]
    docs: dict[str, str] = {}
    for field, below in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
            docs[ast.unparse(field.target)] = " ".join(ast.literal_eval(below.value).split())
    return docs


def _default(field: msgspec.structs.FieldInfo) -> str:
    value = field.default_factory() if field.default is msgspec.NODEFAULT else field.default  # type: ignore[misc]
    return msgspec.json.encode(value).decode()


def _tables(struct: type, path: str) -> Iterator[tuple[str, str, str, str]]:
    docs = _field_docs(struct)
    for field in msgspec.structs.fields(struct):
        dotted = f"{path}{field.encode_name}"
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from _tables(field.type, f"{dotted}.")
        else:
            yield dotted, _default(field), _type_name(field.type), docs.get(field.name, "")


def _type_name(type_: Any) -> str:
    return getattr(type_, "__name__", None) if isinstance(type_, type) else str(type_).replace("typing.", "")


def settings() -> str:
    rows = [
        f"| `{path}` | `{default}` | {doc} |".replace("``", "`")
        for path, default, _, doc in _tables(Settings, "")
    ]
    return "\n".join(
        [
            "# Settings",
            "",
            _NOTE,
            "",
            "A TOML file (`--config`), then the environment, then flags; a later one wins. In the",
            f"environment two underscores step into a table: `http.port` is `{PREFIX}HTTP__PORT`. Lists",
            "are written as in TOML. A key that does not exist is refused at start, with its path.",
            "",
            "| setting | default | meaning |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def metrics() -> str:
    rows = [
        f"| `{metric.name}` | {metric.kind} | {', '.join(metric.labels) or 'none'} | {metric.help} |"
        for metric in CATALOGUE
    ]
    return "\n".join(
        [
            "# Metrics",
            "",
            _NOTE,
            "",
            "Served at `/metrics` in Prometheus' formats. Values are read when somebody asks; a metric",
            "whose part is not in use is absent. No user, target or device is ever a label.",
            "",
            "| name | type | labels | meaning |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _classes(base: type[errors.HeartcastError]) -> Iterator[type[errors.HeartcastError]]:
    yield base
    for sub in base.__subclasses__():
        yield from _classes(sub)


def error_codes() -> dict[str, set[int]]:
    """Every code in the source with the statuses it is answered with."""
    statuses = {class_.__name__: problem(class_("")).status for class_ in _classes(errors.HeartcastError)}
    found: dict[str, set[int]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                _note_call(node, statuses, found)
            elif isinstance(node, ast.ClassDef) and node.name != errors.SettingsError.__name__:
                _note_class(node, statuses, found)
    return dict(sorted(found.items()))


def _note_call(node: ast.Call, statuses: dict[str, int], found: dict[str, set[int]]) -> None:
    name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
    if name in {"status_problem", "refused", "refuse", "_refuse"} and len(node.args) >= 3:
        status, code = _text_or_number(node.args[0]), _text_or_number(node.args[2])
        if isinstance(code, str):
            found.setdefault(code, set()).update({status} if isinstance(status, int) else ())
    for keyword in node.keywords:
        code = _text_or_number(keyword.value)
        if keyword.arg == "code" and isinstance(code, str) and name in statuses:
            found.setdefault(code, set()).add(statuses[name])


def _note_class(node: ast.ClassDef, statuses: dict[str, int], found: dict[str, set[int]]) -> None:
    # Read, not imported: which classes exist must not depend on which extras are installed.
    is_error = any(isinstance(base, ast.Name) and base.id in statuses for base in node.bases)
    for line in node.body if is_error or node.name == errors.HeartcastError.__name__ else ():
        if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "code":
            code = _text_or_number(line.value)
            if isinstance(code, str):
                found.setdefault(code, set()).update({statuses[node.name]} if node.name in statuses else ())


def _text_or_number(node: ast.expr) -> object:
    return node.value if isinstance(node, ast.Constant) else None


def commands() -> str:
    parts = ["# Commands", "", _NOTE, ""]
    context = click.Context(_heartcast, info_name="heartcast", max_content_width=100, terminal_width=100)
    for path, command in _commands(_heartcast, context, "heartcast"):
        inner = click.Context(command, info_name=path, max_content_width=100, terminal_width=100)
        parts += [f"## `{path}`", "", "```text", command.get_help(inner).rstrip(), "```", ""]
    return "\n".join(parts)


def _commands(group: click.Group, context: click.Context, path: str) -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from _commands(command, click.Context(command, info_name=name), f"{path} {name}")
        else:
            yield f"{path} {name}", command


PAGES = {"settings.md": settings, "metrics.md": metrics, "commands.md": commands}


def main() -> None:
    stale = []
    for name, make in PAGES.items():
        path, text = REFERENCE / name, make()
        if not path.exists() or path.read_text() != text:
            stale.append(name)
            if "--check" not in sys.argv:
                path.write_text(text)
    if stale and "--check" in sys.argv:
        sys.exit(f"not up to date, run `python docs/build.py`: {', '.join(stale)}")


if __name__ == "__main__":
    main()
