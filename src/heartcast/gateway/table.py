"""Which route a request is for, as far as the port wants to know: to judge it before it is started.

The application does its own routing, with all that belongs to it. This is one look at the path
for what has to be decided without the application, because it has no time.
"""

from __future__ import annotations

from collections.abc import Iterable

from heartcast.api.route import Route


class RouteTable:
    """Routes by method and path.

    Args:
        routes: Where several fit, one without ``{}`` parts wins, then the earlier.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self._exact: dict[tuple[bytes, bytes], Route] = {}
        self._patterns: dict[tuple[bytes, int], list[tuple[list[bytes], Route]]] = {}
        for route in routes:
            method, path = route.method.encode(), route.path.encode()
            if b"{" in path:
                steps = path.split(b"/")
                self._patterns.setdefault((method, len(steps)), []).append((steps, route))
            else:
                self._exact.setdefault((method, path), route)

    def find(self, method: bytes, path: bytes) -> Route | None:
        """The route for a request line's method and path, without query; None: there is none."""
        if method == b"HEAD":
            method = b"GET"
        route = self._exact.get((method, path))
        if route is not None:
            return route
        steps = path.split(b"/")
        for pattern, route in self._patterns.get((method, len(steps)), ()):
            if all(want == step or want[:1] == b"{" for want, step in zip(pattern, steps, strict=True)):
                return route
        return None
