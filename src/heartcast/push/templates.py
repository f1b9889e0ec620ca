"""All templates, by name: which versions there are, and which one is active.

A version never changes. Versions come from the starter set, from the operator's files, and
through the API, which keeps them in a store. Of files the highest version is active; from
the first activation on it is what was activated last, so that going back is an activation
like any other and the history says who spoke when.

``news`` names the active version, ``news@3`` one for good; a template whose own name
contains an ``@`` is found first.
"""

from __future__ import annotations

import tomllib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from pathlib import Path

import msgspec

from heartcast.core.errors import Conflict, HeartcastError, InvalidInput, NotFound, Overloaded, SettingsError
from heartcast.core.hashing import hash64
from heartcast.core.names import check_id
from heartcast.push.journal import Note
from heartcast.push.template import RenderingFailed, Source, Template, TemplateFault
from heartcast.push.template_store import Activation, TemplateStore, Version
from heartcast.push.template_store.memory import MemoryTemplateStore

__all__ = ["RenderingFailed", "Source", "Template", "Templates", "load"]

MAX_STORED = 10_000
"""Versions made through the API; each is compiled and stays in memory, some 20 KB."""
MAX_VERSION = 999_999
MAX_NAME_BYTES = 100

Done = Callable[[HeartcastError | None], None]


class _Absent(Template):
    """Stands for a version whose file is gone."""

    __slots__ = ()
    is_there = False

    def __init__(self, key: str) -> None:
        name, _, version = key.rpartition("@")
        super().__init__(Source(name=name, version=int(version), title=""))

    def render(self, push_id: str, payload: bytes, accepted_ms: int, locale: str = "") -> bytes:
        raise RenderingFailed(f"{self.key}: the template is no longer there")


class Templates:
    """All templates, found by name.

    Args:
        templates: From files.
    """

    def __init__(self, templates: Iterable[Template]) -> None:
        self._by_key: dict[str, Template] = {}
        self._by_name: dict[str, Template] = {}
        self._versions: dict[str, list[int]] = {}
        self._history: dict[str, list[Activation]] = {}
        self._made_ms: dict[str, int] = {}
        self._store: TemplateStore
        for template in templates:
            self._put(template)
        for name in self._versions:
            self._choose(name)
        self.use(MemoryTemplateStore())

    def use(self, store: TemplateStore) -> None:
        """Take up what the store kept, and keep there what is made from now on.

        A version that is in a file as well is the store's: pushes may rely on it.
        """
        self._store = store
        store.follow(self._made, self._activated)

    # ── finding ──────────────────────────────────────────────────────────────

    def find(self, name: str) -> Template:
        """The active version of ``name``, or the version that ``name@3`` pins.

        Raises:
            NotFound: there is none (code ``unknown_template``).
        """
        template = self._by_name.get(name) or self._by_key.get(name)
        if template is None:
            if name in self._versions:
                raise NotFound(
                    f"no version of template {name!r} is active; activate one, or name one: "
                    f"{name}@{self._versions[name][-1]}",
                    code="unknown_template",
                )
            raise NotFound(f"there is no template {name[:100]!r}", code="unknown_template")
        return template

    def find_or_absent(self, key: str) -> Template:
        """The version that ``name@3`` pins, or one that says that it is gone.

        A push that was stored with a template whose file is missing now must not be lost
        by that: it can be delivered after a restart with the file, and fails, with
        its account, when its user comes first.
        """
        return self._by_key.get(key) or _Absent(key)

    def names(self) -> list[str]:
        """Every name, sorted."""
        return sorted(self._versions)

    def page(self, after: str, limit: int) -> list[str]:
        """Names greater than ``after``, sorted, at most ``limit``."""
        names = self.names()
        start = bisect_right(names, after)
        return names[start : start + limit]

    def versions(self, name: str) -> list[Template]:
        """Every version of this name, lowest first.

        Raises:
            NotFound: there is none (code ``unknown_template``).
        """
        if name not in self._versions:
            raise NotFound(f"there is no template {name[:100]!r}", code="unknown_template")
        return [self._by_key[f"{name}@{version}"] for version in self._versions[name]]

    def numbers(self, name: str) -> list[int]:
        """Numbers of this name's versions, lowest first; none when there is no such name."""
        return list(self._versions.get(name, ()))

    def version(self, name: str, version: int) -> Template:
        """One version.

        Raises:
            NotFound: there is none (code ``unknown_template``).
        """
        template = self._by_key.get(f"{name}@{version}")
        if template is None or template.name != name:
            raise NotFound(
                f"there is no version {version} of template {name[:100]!r}", code="unknown_template"
            )
        return template

    def active(self, name: str) -> int | None:
        """The active version; None: none is."""
        template = self._by_name.get(name)
        return template.version if template else None

    def history(self, name: str) -> Sequence[Activation]:
        """Activations of this name, oldest first; none for what only files have."""
        return self._history.get(name, ())

    def made_ms(self, template: Template) -> int | None:
        """Wall time at which the API made this version; None: it is from a file."""
        return self._made_ms.get(template.key)

    def tag(self, name: str) -> str:
        """What changes whenever a version is made or activated, as an entity tag."""
        state = f"{self._versions.get(name)} {self.active(name)} {len(self.history(name))}"
        return f'"{hash64(state):016x}"'

    # ── changing ─────────────────────────────────────────────────────────────

    def make(self, template: Template, now_ms: int, notes: Sequence[Note], done: Done) -> None:
        """Keep a new version; it is found from when ``done`` is told None. It is not active.

        Args:
            template: As ``checked`` gave it.
            notes: What must be written with it.

        Raises:
            Conflict: this version is there (code ``version_exists``).
            Overloaded: there are as many as may be (code ``templates_full``).
        """
        if template.key in self._by_key:
            raise version_exists(template)
        if len(self._made_ms) >= MAX_STORED:
            raise Overloaded("as many template versions are kept as may be", code="templates_full")
        source = msgspec.json.encode(template.source)
        self._store.make(Version(template.name, template.version, source, now_ms), notes, done)

    def next_version(self, name: str) -> int:
        """The number after the highest one there is."""
        return max(self._versions.get(name, [0])) + 1

    def activate(self, name: str, version: int, now_ms: int, notes: Sequence[Note], done: Done) -> None:
        """Make this version the active one, all at once: what is accepted later uses it.

        Raises:
            NotFound: there is no such version (code ``unknown_template``).
        """
        self.version(name, version)
        activation = Activation(name, version, len(self.history(name)) + 1, now_ms)
        self._store.activate(activation, notes, done)

    def _made(self, version: Version) -> None:
        source = msgspec.json.decode(version.source, type=Source)
        self._put(Template(source))
        self._made_ms[f"{version.name}@{version.version}"] = version.made_ms

    def _activated(self, activation: Activation) -> None:
        self._history.setdefault(activation.name, []).append(activation)
        self._choose(activation.name)

    def _put(self, template: Template) -> None:
        versions = self._versions.setdefault(template.name, [])
        if template.version not in versions:
            versions.append(template.version)
            versions.sort()
        self._by_key[template.key] = template
        if self.active(template.name) == template.version:
            self._by_name[template.name] = template

    def _choose(self, name: str) -> None:
        history = self.history(name)
        chosen = history[-1].version if history else None
        key = f"{name}@{chosen or self._versions.get(name, [0])[-1]}"
        # What was activated may have been a file that is gone: then it is the highest again.
        template = self._by_key.get(key) or self._by_key.get(f"{name}@{self._versions.get(name, [0])[-1]}")
        if template is not None:
            self._by_name[name] = template


def version_exists(template: Template) -> Conflict:
    """The refusal of a version that is there already."""
    return Conflict(
        f"version {template.version} of {template.name!r} exists, and versions never change; "
        "make the next one",
        code="version_exists",
    )


def load(folder: Path | None = None) -> Templates:
    """The starter set, and every ``*.toml`` of ``folder`` in front of it.

    Args:
        folder: The operator's own templates; None, or a folder that is not there: none.

    Raises:
        SettingsError: a file cannot be read or is no template; the message names it.
    """
    starters = resources.files("heartcast.push") / "starter"
    files = [(item.name, item.read_text) for item in starters.iterdir() if item.name.endswith(".toml")]
    if folder is not None and folder.is_dir():
        files += [(path.name, path.read_text) for path in sorted(folder.glob("*.toml"))]
    return Templates([_read(name, read_text) for name, read_text in files])


def _read(file_name: str, read_text: Callable[[], str]) -> Template:
    try:
        source = msgspec.convert(tomllib.loads(read_text()), Source)
        if not source.name:
            source = msgspec.structs.replace(source, name=file_name.removesuffix(".toml"))
        return Template(source)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValueError) as error:
        raise SettingsError(str(error), path=f"templates/{file_name}") from error


def checked(source: Source) -> Template:
    """The template that a source describes.

    Raises:
        InvalidInput: it is none (code ``invalid_template``); the pointer says where.
    """
    check_id(source.name, "/name")
    if len(source.name.encode()) > MAX_NAME_BYTES or "@" in source.name or "/" in source.name:
        raise InvalidInput(
            f"must be at most {MAX_NAME_BYTES} bytes without @ and /",
            pointer="/name",
            code="invalid_template",
        )
    if not 1 <= source.version <= MAX_VERSION:
        raise InvalidInput(f"must be from 1 to {MAX_VERSION}", pointer="/version", code="invalid_template")
    try:
        return Template(source)
    except TemplateFault as error:
        raise InvalidInput(error.detail, pointer=error.pointer, code="invalid_template") from error
