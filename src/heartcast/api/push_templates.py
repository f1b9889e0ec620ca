"""REST of templates: versions that never change, and the one that is active.

    GET  /api/v1/templates                                 names, with what is active
    GET  /api/v1/templates/{name}                          versions and history; ETag
    GET  /api/v1/templates/{name}/versions/{version}       one version as its author wrote it
    PUT  /api/v1/templates/{name}/versions/{version}       make it; the same again changes nothing
    POST /api/v1/templates/{name}/versions                 make the next one
    POST /api/v1/templates/{name}/versions/{version}/activate
    POST /api/v1/templates/{name}/preview                  what it says, with nothing sent

A new version is looked at with ``preview``, pushed to oneself as ``name@version``, and then
activated. Going back is activating the one before.
"""

from __future__ import annotations

from functools import partial

import msgspec

from heartcast.api.body import decoder
from heartcast.api.problems import status_problem
from heartcast.api.push_dead_letters import limit_of
from heartcast.api.push_once import Ticket, Tickets, refuse
from heartcast.api.push_template_bodies import (
    TemplateActivation,
    TemplateBody,
    TemplateDetail,
    TemplateList,
    TemplatePreview,
    TemplatePreviewed,
    TemplateSummary,
    TemplateVersion,
)
from heartcast.api.route import PUSH_WRITE, Answer, Call, Parameter, Route
from heartcast.core.clock import rfc3339
from heartcast.core.errors import Forbidden, HeartcastError, InvalidInput
from heartcast.core.names import check_id
from heartcast.push.service import PushService
from heartcast.push.template import RenderingFailed, Source, Template, check_locale
from heartcast.push.templates import Templates, checked, version_exists

_PATH = "/api/v1/templates"
_encode = msgspec.json.Encoder().encode


MAX_HISTORY = 100
_decode_body = decoder(TemplateBody)
_decode_preview = decoder(TemplatePreview)


def routes(service: PushService, tickets: Tickets) -> list[Route]:
    """The routes of templates."""
    api = _TemplatesApi(service.templates, service)
    one, version = f"{_PATH}/{{name}}", f"{_PATH}/{{name}}/versions/{{version}}"
    return [
        Route(
            method="GET",
            path=_PATH,
            handler=api.page,
            summary="All templates by name, and which version is active.",
            tag="templates",
            answers={200: TemplateList},
            parameters=(
                Parameter(name="cursor", summary="Where the page before ended."),
                Parameter(name="limit", summary="1 to 200; 50 when left out.", type=int),
            ),
        ),
        Route(
            method="GET",
            path=one,
            handler=api.get,
            summary="A template's versions and activations; the ETag is for If-Match.",
            tag="templates",
            answers={200: TemplateDetail},
        ),
        Route(
            method="GET",
            path=version,
            handler=api.get_version,
            summary="One version, as its author wrote it.",
            tag="templates",
            answers={200: TemplateVersion},
        ),
        Route(
            method="PUT",
            path=version,
            handler=tickets.guard(f"PUT {version}", api.put),
            summary="Make a version, for good; the same again is answered with 200, another with 409.",
            tag="templates",
            body=TemplateBody,
            answers={201: TemplateVersion, 200: TemplateVersion},
        ),
        Route(
            method="POST",
            path=f"{one}/versions",
            handler=tickets.guard(f"POST {one}/versions", api.post),
            summary="Make the next version.",
            tag="templates",
            body=TemplateBody,
            answers={201: TemplateVersion},
        ),
        Route(
            method="POST",
            path=f"{version}/activate",
            handler=tickets.guard(f"POST {version}/activate", api.activate),
            summary="Make a version the active one; If-Match guards against another editor.",
            tag="templates",
            answers={200: TemplateDetail},
        ),
        Route(
            method="POST",
            path=f"{one}/preview",
            handler=api.preview,
            summary="What a version or a draft makes of a payload; nothing is sent.",
            tag="templates",
            body=TemplatePreview,
            answers={200: TemplatePreviewed},
        ),
    ]


class _TemplatesApi:
    def __init__(self, templates: Templates, service: PushService) -> None:
        self._templates = templates
        self._service = service

    # ── reading ──────────────────────────────────────────────────────────────

    def page(self, call: Call) -> Answer:
        _must_push(call)
        values = call.query_values()
        limit, cursor = limit_of(values.get("limit", ["50"])[0]), values.get("cursor", [""])[0]
        names = self._templates.page(cursor, limit + 1)
        items = [
            TemplateSummary(name, self._templates.active(name), self._numbers(name)) for name in names[:limit]
        ]
        return Answer(200, _encode(TemplateList(items, names[limit - 1] if len(names) > limit else None)))

    def get(self, call: Call) -> Answer:
        _must_push(call)
        name = call.params["name"]
        self._templates.versions(name)
        tag = ((b"etag", self._templates.tag(name).encode()),)
        if call.header(b"if-none-match") == tag[0][1]:
            return Answer(304, b"", tag)
        return Answer(200, self._detail(name), tag)

    def get_version(self, call: Call) -> Answer:
        _must_push(call)
        template = self._templates.version(call.params["name"], _version_of(call))
        return Answer(200, self._shown(template))

    def preview(self, call: Call) -> Answer:
        _must_push(call)
        asked, name = _decode_preview(call.body), call.params["name"]
        locale = check_locale(asked.locale, "/locale") if asked.locale else ""
        if asked.draft is not None and asked.version is not None:
            raise InvalidInput(
                "a draft has no version; leave one of the two out",
                pointer="/version",
                code="conflicting_options",
            )
        if asked.draft is not None:
            template = _template(asked.draft, name, 1, "/draft")
        elif asked.version is not None:
            template = self._templates.version(name, asked.version)
        else:
            template = self._templates.find(name)
        template.check(asked.payload)
        try:
            title, body, url, tag = template.texts(self._service.intake.packed(asked.payload), locale)
        except RenderingFailed as error:
            raise InvalidInput(str(error), pointer="/payload", code="cannot_be_rendered") from error
        version = None if asked.draft is not None else template.version
        return Answer(200, _encode(TemplatePreviewed(version, tag or None, title, body, url)))

    # ── changing ─────────────────────────────────────────────────────────────

    def put(self, call: Call, ticket: Ticket) -> Answer | None:
        _must_be_server(call)
        name, number = call.params["name"], _version_of(call)
        template = _template(_decode_body(call.body), name, number, "")
        if number in self._numbers(name):
            there = self._templates.version(name, number)
            if there.source != template.source:
                raise version_exists(template)
            answer = Answer(200, self._shown(there))
            ticket.keep(answer)
            return answer
        self._make(call, ticket, template)
        return None

    def post(self, call: Call, ticket: Ticket) -> Answer | None:
        _must_be_server(call)
        name = call.params["name"]
        number = self._templates.next_version(name)
        self._make(call, ticket, _template(_decode_body(call.body), name, number, ""))
        return None

    def _make(self, call: Call, ticket: Ticket, template: Template) -> None:
        now_ms = self._service.wall_ms()
        where = f"{_PATH}/{template.name}/versions/{template.version}".encode()
        answer = Answer(201, self._shown(template, now_ms), ((b"location", where),))
        self._templates.make(template, now_ms, ticket.notes(answer), partial(_done, call, ticket, answer))

    def activate(self, call: Call, ticket: Ticket) -> Answer | None:
        _must_be_server(call)
        name, number = call.params["name"], _version_of(call)
        self._templates.version(name, number)
        tag = self._templates.tag(name).encode()
        wanted = call.header(b"if-match")
        if wanted is not None and tag not in [part.strip() for part in wanted.split(b",")] and wanted != b"*":
            ticket.drop()
            return status_problem(
                412,
                "the template was changed meanwhile; read it again",
                "precondition_failed",
                headers=((b"etag", tag),),
            )
        now_ms = self._service.wall_ms()
        answer = Answer(200, self._detail(name, TemplateActivation(number, rfc3339(now_ms))))
        self._templates.activate(
            name, number, now_ms, ticket.notes(answer), partial(self._activated, call, ticket, name, answer)
        )
        return None

    def _activated(
        self, call: Call, ticket: Ticket, name: str, answer: Answer, error: HeartcastError | None
    ) -> None:
        tag = (b"etag", self._templates.tag(name).encode())
        _done(call, ticket, answer._replace(headers=(tag,)), error)

    # ── showing ──────────────────────────────────────────────────────────────

    def _numbers(self, name: str) -> list[int]:
        return self._templates.numbers(name)

    def _detail(self, name: str, newest: TemplateActivation | None = None) -> bytes:
        history = [
            TemplateActivation(one.version, rfc3339(one.at_ms)) for one in self._templates.history(name)
        ]
        active = self._templates.active(name)
        if newest is not None:
            history.append(newest)
            active = newest.version
        return _encode(TemplateDetail(name, active, self._numbers(name), history[-MAX_HISTORY:]))

    def _shown(self, template: Template, made_ms: int | None = None) -> bytes:
        made_ms = self._templates.made_ms(template) if made_ms is None else made_ms
        source = template.source
        return _encode(
            TemplateVersion(
                template.name,
                template.version,
                self._templates.active(template.name) == template.version,
                None if made_ms is None else rfc3339(made_ms),
                TemplateBody(
                    title=source.title, body=source.body, url=source.url, fields=source.fields,
                    schema=source.schema, locales=source.locales,
                ),
            )
        )  # fmt: skip


def _template(body: TemplateBody, name: str, version: int, pointer: str) -> Template:
    source = Source(
        name=check_id(name), version=version, title=body.title, body=body.body, url=body.url,
        fields=body.fields, schema=body.schema, locales=body.locales,
    )  # fmt: skip
    try:
        return checked(source)
    except InvalidInput as error:
        error.pointer = f"{pointer}{error.pointer}"
        raise


def _version_of(call: Call) -> int:
    text = call.params["version"]
    if not text.isdecimal() or len(text) > 6 or not int(text):
        raise InvalidInput(
            f"a version is a number from 1 to 999999, got {text[:20]!r}", code="invalid_template"
        )
    return int(text)


def _done(call: Call, ticket: Ticket, answer: Answer, error: HeartcastError | None) -> None:
    if error is not None:
        refuse(call, ticket, error)
        return
    ticket.keep(answer)
    call.respond(answer)


def _must_push(call: Call) -> None:
    if not call.identity.may(PUSH_WRITE):
        raise Forbidden(f"only the operator's own servers may do this (scope {PUSH_WRITE})")


def _must_be_server(call: Call) -> None:
    if not call.identity.is_server:
        raise Forbidden("only the operator's own servers may change templates")
