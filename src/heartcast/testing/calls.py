"""Calling a table of routes as the port does, without a port."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

from heartcast.api.problems import problem
from heartcast.api.route import Answer, Call, Identity, Route
from heartcast.core.errors import HeartcastError


class Caller:
    """Sends requests to handlers.

    Args:
        routes: The table.
        identity: Who calls, unless a call says otherwise.
        peer: From where.
    """

    def __init__(self, routes: Iterable[Route], identity: Identity, peer: str = "203.0.113.7") -> None:
        self._routes = {(route.method, route.path): route for route in routes}
        self.identity = identity
        self.peer = peer

    async def answer(
        self,
        method: str,
        path: str,
        query: Any = (),
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        as_: Identity | None = None,
        peer: str | None = None,
        params: dict[str, str] | None = None,
    ) -> Answer:
        """The answer to one request; problems are answers.

        Args:
            query: As ``urlencode`` takes it.
            body: Bytes as they are, anything else as JSON.
            params: Values of the ``{}`` parts of ``path``, which then stands as in the table.
        """
        template, params = path, params or {}
        if (method, path) not in self._routes:
            head, _, last = path.rpartition("/")
            template, params = f"{head}/{{id}}", {"id": last}
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        call = Call(
            body=body if isinstance(body, bytes) else json.dumps(body).encode(),
            query=urlencode(query).encode(),
            headers=[(name.encode(), value.encode("latin-1")) for name, value in (headers or {}).items()],
            params=params,
            peer=self.peer if peer is None else peer,
            identity=as_ or self.identity,
            respond=future.set_result,
        )
        try:
            result = self._routes[method, template].handler(call)
            if inspect.isawaitable(result):
                result = await result
        except HeartcastError as error:
            result = problem(error)
        return result if result is not None else await future

    async def json(
        self, method: str, path: str, query: Any = (), body: Any = None, **more: Any
    ) -> tuple[int, Any]:
        """Status and decoded body; None when there is no body."""
        answer = await self.answer(method, path, query, body, **more)
        return answer.status, json.loads(answer.body) if answer.body else None
