"""The Litestar application: every route that is not answered inside the protocol.

It is also the whole API for any other ASGI server: hot routes are here too and call
the same handlers, so nothing is reachable on one path only.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, Protocol, TypeVar

from litestar import HttpMethod, Litestar, Request, Response
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.handlers import HTTPRouteHandler

from heartcast.api.admission import Admission
from heartcast.api.media import media_type_problem
from heartcast.api.problems import internal_problem, problem_for, status_problem
from heartcast.api.route import ANONYMOUS, LATER, Answer, Call, Headers, Identity, Route
from heartcast.core.errors import HeartcastError

T = TypeVar("T")
Raised = Callable[[Route, BaseException], None]


class Identifies(Protocol):
    """What the application needs of an authenticator."""

    def identify(self, headers: list[tuple[bytes, bytes]], peer: str) -> Identity: ...


def application(
    routes: Iterable[Route],
    authenticator: Identifies,
    raised: Raised,
    admission: Admission | None = None,
    switched_off: Mapping[str, str] | None = None,
) -> Litestar:
    """Build the application.

    Args:
        routes: Everything that answers; no method and path twice.
        authenticator: Says who is calling.
        raised: Told of every exception that a handler did not raise on purpose.
        admission: Says who is let in now; None: everybody.
        switched_off: How to switch on what answers nothing now, by path; None: there is nothing.
    """
    methods: dict[str, list[str]] = {}
    for route in (routes := list(routes)):
        methods.setdefault(route.path, ["OPTIONS"]).extend(_methods(route))
    return Litestar(
        route_handlers=[
            # First, or Litestar makes OPTIONS handlers of its own that know one method each.
            *(_options(path, allowed) for path, allowed in methods.items()),
            *(_handler(route, authenticator, raised, admission) for route in routes),
        ],
        exception_handlers={Exception: partial(_protocol_problem, methods, switched_off or {})},
        openapi_config=None,
        request_max_body_size=None,  # the port has counted the bytes before they get here
        logging_config=None,
    )


def _methods(route: Route) -> list[str]:
    return ["GET", "HEAD"] if route.method == "GET" else [route.method]


def _litestar_path(path: str) -> str:
    return re.sub(r"{(\w+)}", r"{\1:str}", path)


def _handler(
    route: Route, authenticator: Identifies, raised: Raised, admission: Admission | None
) -> HTTPRouteHandler:
    async def answer(request: Request[Any, Any, Any]) -> Response[bytes]:
        return _response(await _answer(route, request, authenticator, raised, admission))

    methods = [HttpMethod(method) for method in _methods(route)]
    # Litestar reads the handler's parameters from its annotations at run time.
    answer.__annotations__ = {"request": Request, "return": Response}
    # Every answer brings its own status; 200 only keeps Litestar from assuming that
    # a DELETE has no body.
    return HTTPRouteHandler(_litestar_path(route.path), http_method=methods, status_code=200)(answer)


def _options(path: str, allowed: list[str]) -> HTTPRouteHandler:
    answer = Answer(204, headers=((b"allow", _listed(allowed).encode()),))

    async def options() -> Response[bytes]:
        return _response(answer)

    options.__annotations__ = {"return": Response}
    return HTTPRouteHandler(_litestar_path(path), http_method=HttpMethod.OPTIONS, status_code=200)(options)


def _listed(methods: list[str]) -> str:
    return ", ".join(sorted(methods))


async def _answer(
    route: Route,
    request: Request[Any, Any, Any],
    authenticator: Identifies,
    raised: Raised,
    admission: Admission | None,
) -> Answer:
    headers: list[tuple[bytes, bytes]] = request.scope["headers"]  # type: ignore[assignment]
    peer = request.client.host if request.client else ""
    later: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    identity = ANONYMOUS
    try:
        if refusal := _unreadable(route, request):
            return refusal
        if not route.is_public:
            identity = authenticator.identify(headers, peer)
        call = Call(
            body=await request.body(),
            query=request.scope["query_string"],
            headers=headers,
            params=request.path_params,
            peer=peer,
            identity=identity,
            respond=partial(_resolve, later),
        )
        if admission and (refusal := await _limited(admission, route, call)):
            return refusal
        result = route.handler(call)
        if inspect.isawaitable(result):
            result = await _typed(result)
        return result if result is not None else await later
    except HeartcastError as error:
        return problem_for(error, identity)
    except Exception as error:
        raised(route, error)
        return internal_problem()


async def _limited(admission: Admission, route: Route, call: Call) -> Answer | None:
    judged: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
    refusal = admission.limit(route, call, partial(_resolve, judged))
    return await judged if refusal is LATER else refusal


def _unreadable(route: Route, request: Request[Any, Any, Any]) -> Answer | None:
    """The refusal of a body that does not claim to be JSON; None when it may be read."""
    if route.body is None or not {"content-length", "transfer-encoding"} & request.headers.keys():
        return None
    said = {name: request.headers.get(name) for name in ("content-type", "content-encoding")}
    content_type, encoding = [None if text is None else text.encode("latin-1") for text in said.values()]
    return media_type_problem(content_type, encoding)


def _resolve(later: asyncio.Future[T], answer: T) -> None:
    # A client that hung up cancels the request: the answer then has nowhere to go.
    if not later.done():
        later.set_result(answer)


async def _typed(result: Awaitable[Answer | None]) -> Answer | None:
    return await result


def _response(answer: Answer) -> Response[bytes]:
    media_type = answer.content_type.decode("latin-1")
    headers = _text(answer.headers)
    if answer.body or "charset=" in media_type:
        # Said here, or Litestar adds a second charset to every text type.
        headers.setdefault("content-type", media_type)
    return Response(content=answer.body, status_code=answer.status, media_type=media_type, headers=headers)


def _text(headers: Headers) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}


def _protocol_problem(
    methods: Mapping[str, list[str]],
    switched_off: Mapping[str, str],
    request: Request[Any, Any, Any],
    error: Exception,
) -> Response[bytes]:
    """What Litestar itself refuses: unknown paths, wrong methods, bodies that broke off."""
    if isinstance(error, NotFoundException):
        return _response(_nothing_there(switched_off, request.url.path))
    if isinstance(error, MethodNotAllowedException):
        return _response(_method_not_allowed(methods, request))
    if isinstance(error, HTTPException):
        return _response(status_problem(error.status_code, error.detail, "bad_request"))
    return _response(internal_problem())


def _nothing_there(switched_off: Mapping[str, str], path: str) -> Answer:
    if way := next((way for template, way in switched_off.items() if _fits(template, path)), None):
        return status_problem(404, way, "switched_off")
    return status_problem(404, f"nothing answers at {path}", "not_found")


def _method_not_allowed(methods: Mapping[str, list[str]], request: Request[Any, Any, Any]) -> Answer:
    matching = (allowed for path, allowed in methods.items() if _fits(path, request.url.path))
    allow = _listed(next(matching, ["OPTIONS"]))
    detail = f"{request.method} is not allowed here; allowed: {allow}"
    return status_problem(405, detail, "method_not_allowed", headers=((b"allow", allow.encode()),))


def _fits(template: str, path: str) -> bool:
    steps, wanted = template.split("/"), path.split("/")
    return len(steps) == len(wanted) and all(
        step.startswith("{") or step == want for step, want in zip(steps, wanted, strict=True)
    )
