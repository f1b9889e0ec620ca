"""Templates: what a push says, and what its payload must hold.

A template is one TOML file::

    name = "news_v2"              # the file's name without .toml when left out
    version = 1                   # 1 when left out; the highest one is active
    title = "{{ title }}"
    body = "{{ summary }}"        # "" when left out
    url = "{{ url }}"             # left out of the push when it renders to nothing

    [fields.title]                # every field that the texts use is declared
    type = "string"               # string, integer, number, boolean, list, object or any
    required = true
    max_length = 300              # of a string, in characters

    [fields.summary]
    type = "string"
    default = ""                  # optional fields: "" , 0, false … or this

Texts are Jinja2 in an immutable sandbox. A name that no field declares is an error
when the file is read, not when the push should leave. The payload is checked when the
push is accepted (cheap: the fields become a msgspec type) and rendered when it leaves,
once. Fields that are not declared are allowed and travel to the client untouched.

``news`` names the active version, ``news@3`` one for good; a template whose own name
contains an ``@`` is found first.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import jinja2
import msgspec
from jinja2 import meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from heartcast.core.errors import InvalidInput, NotFound, SettingsError

FieldType = Literal["string", "integer", "number", "boolean", "list", "object", "any"]
_TYPES: dict[FieldType, tuple[Any, Any]] = {
    "string": (str, ""),
    "integer": (int, 0),
    "number": (float, 0.0),
    "boolean": (bool, False),
    "list": (list, ()),
    "object": (dict, {}),
    "any": (Any, None),
}
MAX_RENDERED_BYTES = 65_536
"""A loop in a template must not turn a small payload into a large frame."""

# autoescape stays off: what leaves is JSON whose texts clients insert as text, and
# HTML entities would show up literally on a lock screen.
_environment = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, autoescape=False)
_JUST_A_FIELD = re.compile(r"\{\{\s*([A-Za-z_]\w*)\s*\}\}").fullmatch
_MISSING = re.compile(r"missing required field `(.*)`").search
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Field(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One field of the payload."""

    type: FieldType = "string"
    required: bool = False
    default: Any = msgspec.UNSET
    """What the texts see when an optional field is absent."""
    max_length: int | None = None
    """Longest string in characters; None: bounded by the payload only."""


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A template as its author wrote it."""

    title: str
    name: str = ""
    version: int = 1
    body: str = ""
    url: str = ""
    fields: dict[str, Field] = {}


class RenderingFailed(Exception):
    """A template could not be rendered with a payload that passed its check."""


class Template:
    """One version of one template, compiled.

    Raises:
        ValueError: a text is not valid Jinja2 or uses a field that is not declared.
    """

    __slots__ = ("_check", "_defaults", "_required", "_texts", "name", "name_json", "version")

    def __init__(self, source: Source) -> None:
        self.name = source.name
        self.name_json = _encode(source.name).decode()
        """The name as a JSON string, made once for all answers."""
        self.version = source.version
        self._check = _checker(source)
        self._required = [
            (name, _TYPES[field.type][0], field.max_length)
            for name, field in source.fields.items()
            if field.required
        ]
        self._defaults = {
            name: _TYPES[field.type][1] if field.default is msgspec.UNSET else field.default
            for name, field in source.fields.items()
            if not field.required
        }
        self._texts = [_compile(source, text) for text in ("title", "body", "url")]

    @property
    def key(self) -> str:
        """``name@version``: names this version for good."""
        return f"{self.name}@{self.version}"

    def check(self, payload: dict[str, Any]) -> None:
        """Whether this payload can be rendered.

        Raises:
            InvalidInput: a field is missing or of the wrong type; ``pointer`` starts at the payload.
        """
        if len(payload) == len(self._required):
            # Nearly every payload holds just the required fields, of the very types
            # asked for: seeing that costs a third of a full check.
            for name, type_, longest in self._required:
                value = payload.get(name)
                if value.__class__ is not type_ or (longest and len(value) > longest):  # type: ignore[arg-type]
                    break
            else:
                return
        try:
            self._check(payload)
        except msgspec.ValidationError as error:
            raise _payload_error(str(error)) from None

    def render(self, push_id: str, payload: bytes, accepted_ms: int) -> bytes:
        """The JSON that clients get.

        Raises:
            RenderingFailed: a text raised, or the result is larger than 64 KB.
        """
        try:
            values = self._defaults | _decode(payload)
            title, body, url = (text(values) for text in self._texts)
        except Exception as error:
            # Whatever a template does wrong is the template's fault and ends this push only.
            raise RenderingFailed(f"{self.key}: {error}") from error
        link = {"url": url} if url else {}
        head = {"id": push_id, "template": self.name, "title": title, "body": body, **link}
        data = _encode({**head, "payload": msgspec.Raw(payload), "sent_ms": accepted_ms})
        if len(data) > MAX_RENDERED_BYTES:
            raise RenderingFailed(f"{self.key}: rendered to {len(data)} bytes, at most {MAX_RENDERED_BYTES}")
        return data


class _Absent(Template):
    """Stands for a version whose file is gone."""

    def __init__(self, key: str) -> None:
        name, _, version = key.rpartition("@")
        super().__init__(Source(name=name, version=int(version), title=""))

    def render(self, push_id: str, payload: bytes, accepted_ms: int) -> bytes:
        raise RenderingFailed(f"{self.key}: the template is no longer there")


class Templates:
    """All templates, found by name."""

    def __init__(self, templates: Iterable[Template]) -> None:
        self._by_key = {template.key: template for template in templates}
        self._by_name: dict[str, Template] = {}
        for template in sorted(self._by_key.values(), key=lambda template: template.version):
            self._by_name[template.name] = template

    def find(self, name: str) -> Template:
        """The active version of ``name``, or the version that ``name@3`` pins.

        Raises:
            NotFound: there is none (code ``unknown_template``).
        """
        template = self._by_name.get(name) or self._by_key.get(name)
        if template is None:
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
        return sorted(self._by_name)


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


def _checker(source: Source) -> Callable[[dict[str, Any]], object]:
    required: list[tuple[str, Any, Any]] = []
    optional: list[tuple[str, Any, Any]] = []
    for name, field in source.fields.items():
        type_ = _TYPES[field.type][0]
        if field.max_length is not None:
            type_ = Annotated[type_, msgspec.Meta(max_length=field.max_length)]
        # Python names of the type's attributes are ours, so that a field may have any name.
        if field.required:
            required.append((f"f{len(required)}", type_, msgspec.field(name=name)))
        else:
            optional.append((f"o{len(optional)}", type_, msgspec.field(name=name, default=None)))
    shape = msgspec.defstruct("Payload", [*required, *optional], gc=False)
    return lambda payload: msgspec.convert(payload, shape)


def _compile(source: Source, text_name: str) -> Callable[[dict[str, Any]], str]:
    text = getattr(source, text_name)
    try:
        used = meta.find_undeclared_variables(_environment.parse(text))
    except jinja2.TemplateSyntaxError as error:
        raise ValueError(f"{text_name}: {error.message} (line {error.lineno})") from error
    if unknown := used - source.fields.keys():
        raise ValueError(f"{text_name}: uses {sorted(unknown)}, which [fields] does not declare")
    if not used and "{" not in text:
        return lambda _: text
    if plain := _JUST_A_FIELD(text):
        # Most texts are a single field, and a sandboxed render takes 12 µs for it.
        name = plain[1]
        return lambda values: str(values[name])
    return _environment.from_string(text).render


def _payload_error(message: str) -> InvalidInput:
    text, _, path = message.partition(" - at `$.")
    # The shape is flat: what is wrong is a field of the payload, or one that is not there.
    missing = _MISSING(text)
    name = missing[1] if missing else path.rstrip("`")
    pointer = f"/payload/{name.replace('~', '~0').replace('/', '~1')}" if name else "/payload"
    return InvalidInput(text, pointer=pointer, code="payload_does_not_fit")
