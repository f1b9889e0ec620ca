"""One table of everything that answers a request.

A ``Route`` joins a method and a path to a handler. The gateway answers the *hot*
ones inside the HTTP protocol, without a task; Litestar answers the rest, and the hot
ones too when the hot path is switched off. Both call the same handler with a
``Call``, so there is one behaviour, and ``api.openapi`` describes it from the same
table.

A hot handler is a plain function: it returns an ``Answer``, or ``None`` and later
calls ``call.respond(answer)`` exactly once (a durable store answers after its
commit). It may raise a ``HeartcastError``; ``api.problems`` turns it into an answer.
A handler that is not hot may be a coroutine function as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from heartcast.core.errors import InvalidInput
from heartcast.resilience.shedding import Priority

Headers = tuple[tuple[bytes, bytes], ...]
JSON_TYPE = b"application/json"


HEARTS_WRITE = "hearts:write"
"""Scope: give and take back one's own hearts."""
HEARTS_WRITE_ANY = "hearts:write:any"
"""Scope: give and take back anybody's hearts."""
PUSH_WRITE = "push:write"
"""Scope: send pushes and see what became of them."""
CONSOLE = "console"
"""Scope: look at everything in ``/console``, and change nothing."""
ADMIN = "admin"
"""Scope: everything."""


class Answer(NamedTuple):
    """A finished response, before CORS and the connection's own headers."""

    status: int
    body: bytes = b""
    headers: Headers = ()
    """Extra headers, names in lower case; content-length is never among them."""
    content_type: bytes = JSON_TYPE


LATER = Answer(0)
"""Never sent: what stands between a request and its handler answers later, by callback."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is calling."""

    user: str | None = None
    """The user's text id; None for a server or an anonymous caller."""

    is_server: bool = False
    """Whether the caller may do everything: one of the operator's own servers, scope ``admin``."""

    scopes: frozenset[str] = frozenset((HEARTS_WRITE,))

    owns: frozenset[str] = frozenset()
    """Targets that are the caller's own."""

    is_visitor: bool = False
    """Whether the user is nobody but a device with a signed name."""

    def may(self, scope: str) -> bool:
        """Whether this caller has a scope, or all of them."""
        return self.is_server or scope in self.scopes

    def may_act_for(self, user: str) -> bool:
        """Whether this caller may see what belongs to ``user``, and act as that user."""
        return self.is_server or self.user == user

    def may_look_at(self, user: str) -> bool:
        """Whether this caller may see what belongs to ``user``, and change nothing."""
        return self.may_act_for(user) or CONSOLE in self.scopes

    def may_heart_for(self, user: str) -> bool:
        """Whether this caller may give and take back hearts of ``user``."""
        if self.user == user and HEARTS_WRITE in self.scopes:
            return True
        return self.is_server or HEARTS_WRITE_ANY in self.scopes


ANONYMOUS = Identity()


class Call:
    """One request on its way through a handler.

    The gateway subclasses it to bind ``respond`` to a place in the connection's
    ordered queue; everyone else passes ``respond``.
    """

    __slots__ = ("body", "headers", "identity", "params", "peer", "query", "respond")

    def __init__(
        self,
        *,
        body: bytes = b"",
        query: bytes = b"",
        headers: list[tuple[bytes, bytes]] | None = None,
        params: dict[str, str] | None = None,
        peer: str = "",
        identity: Identity = ANONYMOUS,
        respond: Callable[[Answer], None],
    ) -> None:
        self.body = body
        self.query = query
        """Raw query string, without the question mark."""
        self.headers = headers if headers is not None else []
        """Names in lower case, in the order received."""
        self.params = params if params is not None else {}
        """Values of the path's ``{name}`` parts."""
        self.peer = peer
        """Address of the client, after trusted proxies; "" when there is none."""
        self.identity = identity
        self.respond = respond

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header; ``name`` in lower case."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    def query_values(self) -> dict[str, list[str]]:
        """As ``query_values`` of this request's query."""
        return query_values(self.query)


def query_values(query: bytes) -> dict[str, list[str]]:
    """A query's parameters, each with all of its values in order.

    Raises:
        InvalidInput: the query is not percent-encoded UTF-8.
    """
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError as error:
        raise InvalidInput("the query must be percent-encoded UTF-8") from error
    values: dict[str, list[str]] = {}
    for key, value in pairs:
        values.setdefault(key, []).append(value)
    return values


HotHandler = Callable[[Call], Answer | None]
ColdHandler = Callable[[Call], Awaitable[Answer | None] | Answer | None]


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A query parameter, for the documentation; the handler validates it."""

    name: str
    summary: str
    type: type = str
    is_required: bool = False
    is_list: bool = False


@dataclass(frozen=True, kw_only=True)
class Route:
    """A method and a path, and what answers there."""

    method: str
    path: str
    """Like ``/api/v1/pushes/{id}``; hot routes have no ``{}`` parts."""

    handler: ColdHandler
    summary: str
    """One sentence for the documentation."""

    tag: str
    """The documentation's section: hearts, push, realtime, ranking, operation."""

    body: type[Any] | None = None
    """Type of the JSON body; None when the request has none."""

    answers: dict[int, type[Any] | None] = field(default_factory=dict)
    """Type of the JSON body per success status; problems are documented for all."""

    parameters: tuple[Parameter, ...] = ()
    hot: bool = False
    """Answered inside the protocol; then ``handler`` must be a plain function."""

    is_public: bool = False
    """No identity needed, in any mode (health, pages, documentation)."""

    priority: Priority = Priority.NORMAL
    """How important an answer is when the server is too busy for all."""

    is_patient: bool = False
    """Whether its answer may wait for something to happen: then an open one is no sign of load."""

    weigh: Callable[[bytes], Priority] | None = None
    """Finds the priority in the body, cheaply and without judging it; asked only when not everything passes.
    None: it is ``priority``."""

    budget: str | None = None
    """Which budget of the client it uses up, see ``api.admission``; None: not counted."""

    is_batch: bool = False
    """Whether it counts as its items."""
