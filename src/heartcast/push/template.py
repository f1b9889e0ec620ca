"""A template: what a push says, and what its payload must hold.

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

    [locales.de]                  # the texts in another language; those left out stay
    body = "{{ summary }} (Übersetzung folgt)"

In place of ``fields`` a template may have a ``schema``, see ``heartcast.push.schema``.

Texts are Jinja2 in an immutable sandbox. A name that no field declares is an error
when the file is read, not when the push should leave. The payload is checked when the
push is accepted (cheap: the fields become a msgspec type) and rendered when it leaves,
once. Fields that are not declared are allowed and travel to the client untouched.

Of a locale like ``de-AT`` the texts of ``de-AT`` are taken, else of ``de``, else the base.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container
from typing import Annotated, Any, Literal, NamedTuple

import jinja2
import msgspec
from jinja2 import meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from heartcast.core.errors import InvalidInput
from heartcast.push.schema import Mismatch, compiled

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
_LOCALE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*").fullmatch
_TEXTS = ("title", "body", "url")
Render = Callable[[dict[str, Any]], str]
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Field(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One field of the payload."""

    type: FieldType = "string"
    required: bool = False
    default: Any = msgspec.UNSET
    """What the texts see when an optional field is absent."""
    max_length: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """Longest string in characters; None: bounded by the payload only."""


class Texts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The texts in one language; null: as in the base."""

    title: str | None = None
    body: str | None = None
    url: str | None = None


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A template as its author wrote it."""

    title: str
    name: str = ""
    version: int = 1
    body: str = ""
    url: str = ""
    fields: dict[str, Field] = {}
    schema: dict[str, Any] | None = None
    """JSON Schema of the payload; null: ``fields`` say it all."""
    locales: dict[str, Texts] = {}
    """Texts in other languages, by tag, like ``de`` or ``pt-BR``."""


class Rendered(NamedTuple):
    """What a template makes of a payload."""

    title: str
    body: str
    url: str
    locale: str
    """The tag whose texts were taken, in lower case; "": the base."""


class _Data(msgspec.Struct, gc=False):
    """What clients get of a push."""

    id: str
    template: str
    title: str
    body: str
    url: str | msgspec.UnsetType
    payload: msgspec.Raw
    sent_ms: int


class RenderingFailed(Exception):
    """A template could not be rendered with a payload that passed its check."""


class TemplateFault(ValueError):
    """A source is no template; ``pointer`` says where."""

    def __init__(self, detail: str, pointer: str) -> None:
        super().__init__(f"{pointer.lstrip('/').replace('/', '.')}: {detail}" if pointer else detail)
        self.detail = detail
        self.pointer = pointer


class Template:
    """One version of one template, compiled.

    Raises:
        TemplateFault: a text is not valid Jinja2 or uses a field that is not declared, the
            schema is none, or a locale is no language tag.
    """

    __slots__ = (
        "_check",
        "_defaults",
        "_locales",
        "_required",
        "_texts",
        "name",
        "name_json",
        "source",
        "version",
    )
    is_there = True
    """False: it stands for a version that is not known here."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.name = source.name
        self.name_json = _encode(source.name).decode()
        """The name as a JSON string, made once for all answers."""
        self.version = source.version
        declared = _declared(source)
        self._check = _checker(source)
        self._required = _required(source)
        self._defaults = _defaults(source)
        self._texts = [_compile(getattr(source, text), f"/{text}", declared) for text in _TEXTS]
        self._locales = {
            _tag(tag): self._localized(texts, f"/locales/{tag}", declared)
            for tag, texts in source.locales.items()
        }

    def _localized(self, texts: Texts, pointer: str, declared: Container[str]) -> list[Render]:
        own = [getattr(texts, name) for name in _TEXTS]
        return [
            base if text is None else _compile(text, f"{pointer}/{name}", declared)
            for name, text, base in zip(_TEXTS, own, self._texts, strict=True)
        ]

    @property
    def key(self) -> str:
        """``name@version``: names this version for good."""
        return f"{self.name}@{self.version}"

    def check(self, payload: dict[str, Any]) -> None:
        """Whether this payload can be rendered.

        Raises:
            InvalidInput: something is missing or does not fit; ``pointer`` starts at ``/payload``.
        """
        required = self._required
        if required is not None and len(payload) == len(required):
            # Nearly every payload holds just the required fields, of the very types
            # asked for: seeing that costs a third of a full check.
            for name, type_, longest in required:
                value = payload.get(name)
                if value.__class__ is not type_ or (longest and len(value) > longest):  # type: ignore[arg-type]
                    break
            else:
                return
        self._check(payload)

    def texts(self, payload: bytes, locale: str = "") -> Rendered:
        """The texts, for a push or for a look at them.

        Raises:
            RenderingFailed: a text raised.
        """
        tag, texts = self._in(locale)
        try:
            values = self._defaults | _decode(payload)
            title, body, url = [text(values) for text in texts]
        except Exception as error:
            # Whatever a template does wrong is the template's fault and ends this push only.
            raise RenderingFailed(f"{self.key}: {error}") from error
        return Rendered(title, body, url, tag)

    def render(self, push_id: str, payload: bytes, accepted_ms: int, locale: str = "") -> bytes:
        """The JSON that clients get.

        Raises:
            RenderingFailed: a text raised, or the result is larger than 64 KB.
        """
        title, body, url, _ = self.texts(payload, locale)
        data = _encode(
            _Data(push_id, self.name, title, body, url or msgspec.UNSET, msgspec.Raw(payload), accepted_ms)
        )
        if len(data) > MAX_RENDERED_BYTES:
            raise RenderingFailed(f"{self.key}: rendered to {len(data)} bytes, at most {MAX_RENDERED_BYTES}")
        return data

    def _in(self, locale: str) -> tuple[str, list[Render]]:
        if self._locales and locale:
            tag = locale.lower()
            while tag:
                if texts := self._locales.get(tag):
                    return tag, texts
                tag = tag.rpartition("-")[0]
        return "", self._texts


def check_locale(tag: str, pointer: str) -> str:
    """The tag, if it is a language tag like ``de`` or ``pt-BR``.

    Raises:
        InvalidInput: it is none (code ``invalid_locale``).
    """
    if len(tag) > 35 or _LOCALE(tag) is None:
        raise InvalidInput(
            f"must be a language tag like de or pt-BR, got {tag[:50]!r}",
            pointer=pointer,
            code="invalid_locale",
        )
    return tag


def _tag(tag: str) -> str:
    try:
        return check_locale(tag, "").lower()
    except InvalidInput as error:
        raise TemplateFault(error.detail, "/locales") from None


def _declared(source: Source) -> Container[str]:
    if source.schema is None:
        return source.fields.keys()
    if source.fields:
        raise TemplateFault("a template has fields or a schema, not both", "/schema")
    properties = source.schema.get("properties", {})
    return properties.keys() if isinstance(properties, dict) else ()


def _required(source: Source) -> list[tuple[str, Any, int | None]] | None:
    if source.schema is not None:
        return None
    return [
        (name, _TYPES[field.type][0], field.max_length)
        for name, field in source.fields.items()
        if field.required
    ]


def _defaults(source: Source) -> dict[str, Any]:
    if source.schema is not None:
        properties = source.schema.get("properties", {})
        return {name: _default_of(inner) for name, inner in properties.items()}
    return {
        name: _TYPES[field.type][1] if field.default is msgspec.UNSET else field.default
        for name, field in source.fields.items()
        if not field.required
    }


def _default_of(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return None
    by_type = {"string": "", "integer": 0, "number": 0, "boolean": False, "array": (), "object": {}}
    type_ = schema.get("type")
    return schema.get("default", by_type.get(type_) if isinstance(type_, str) else None)


def _checker(source: Source) -> Callable[[dict[str, Any]], None]:
    if source.schema is not None:
        return _schema_checker(source.schema)
    fits = _fields_checker(source)

    def check(payload: dict[str, Any]) -> None:
        try:
            fits(payload)
        except msgspec.ValidationError as error:
            raise _payload_error(str(error)) from None

    return check


def _schema_checker(schema: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    try:
        fits = compiled(schema)
    except Mismatch as error:
        raise TemplateFault(error.detail, f"/schema{error.pointer}") from None

    def check(payload: dict[str, Any]) -> None:
        try:
            fits(payload, "/payload")
        except Mismatch as error:
            raise InvalidInput(error.detail, pointer=error.pointer, code="payload_does_not_fit") from None

    return check


def _fields_checker(source: Source) -> Callable[[dict[str, Any]], object]:
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


def _compile(text: str, pointer: str, declared: Container[str]) -> Render:
    try:
        used = meta.find_undeclared_variables(_environment.parse(text))
    except jinja2.TemplateSyntaxError as error:
        raise TemplateFault(f"{error.message} (line {error.lineno})", pointer) from error
    if unknown := [name for name in sorted(used) if name not in declared]:
        raise TemplateFault(f"uses {unknown}, which is not declared", pointer)
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
