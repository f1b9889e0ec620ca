"""What the routes of templates read and answer."""

from __future__ import annotations

from typing import Any

import msgspec

from heartcast.push.template import Field, Texts


class TemplateBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a version says and needs; its name and number are in the path."""

    title: str
    """Jinja2, as all texts."""
    body: str = ""
    url: str = ""
    fields: dict[str, Field] = {}
    """Fields of the payload that the texts use, and what they must be."""
    schema: dict[str, Any] | None = None
    """JSON Schema of the payload, in place of ``fields``."""
    locales: dict[str, Texts] = {}
    """Texts in other languages by tag; of ``de-AT`` those of ``de`` are taken when it has none."""


class TemplateVersion(msgspec.Struct, frozen=True):
    """One version of a template."""

    name: str
    version: int
    is_active: bool
    made_at: str | None
    """RFC 3339; null: it is from a file."""
    template: TemplateBody


class TemplateSummary(msgspec.Struct, frozen=True):
    """A template and its active version."""

    name: str
    active: int | None
    """Null: none is active; pushes must name a version."""
    versions: list[int]


class TemplateList(msgspec.Struct, frozen=True):
    """A page of templates, by name."""

    items: list[TemplateSummary]
    next_cursor: str | None
    """Give it as ``cursor`` for the next page; null: this is the last one."""


class TemplateActivation(msgspec.Struct, frozen=True):
    """That a version became the active one."""

    version: int
    at: str


class TemplateDetail(msgspec.Struct, frozen=True):
    """A template: its versions, which one is active, and what was active before."""

    name: str
    active: int | None
    versions: list[int]
    history: list[TemplateActivation]
    """The last 100 activations, oldest first; empty: the highest version of the files is active."""


class TemplatePreview(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to look at."""

    payload: dict[str, Any]
    version: int | None = None
    """Null: the active one."""
    locale: str = ""
    draft: TemplateBody | None = None
    """A template that was not made yet, in place of a version."""


class TemplatePreviewed(msgspec.Struct, frozen=True):
    """What a user would get."""

    version: int | None
    """Null: the draft."""
    locale: str | None
    """Whose texts were taken; null: the base."""
    title: str
    body: str
    url: str
