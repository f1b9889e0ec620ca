"""Which route a request line is for."""

import pytest

from heartcast.api.route import Answer, Route
from heartcast.gateway.table import RouteTable


def route(method: str, path: str) -> Route:
    return Route(method=method, path=path, handler=lambda call: Answer(200), summary="x", tag="x")


TABLE = RouteTable(
    route(method, path)
    for method, path in [
        ("GET", "/api/v1/hearts"),
        ("GET", "/api/v1/hearts/{id}"),
        ("GET", "/api/v1/hearts/counts"),
        ("POST", "/api/v1/pushes/{id}/cancel"),
        ("GET", "/"),
    ]
)


@pytest.mark.parametrize(
    ("method", "path", "found"),
    [
        ("GET", "/api/v1/hearts", "/api/v1/hearts"),
        ("HEAD", "/api/v1/hearts", "/api/v1/hearts"),
        ("GET", "/api/v1/hearts/counts", "/api/v1/hearts/counts"),
        ("GET", "/api/v1/hearts/h1", "/api/v1/hearts/{id}"),
        ("POST", "/api/v1/pushes/p1/cancel", "/api/v1/pushes/{id}/cancel"),
        ("GET", "/", "/"),
        ("GET", "/api/v1/hearts/h1/x", None),
        ("POST", "/api/v1/hearts", None),
        ("POST", "/api/v1/pushes/p1/undo", None),
        ("GET", "", None),
        ("BREW", "/\xff", None),
    ],
)
def test_a_route_is_found_by_its_path_and_the_one_without_names_first(
    method: str, path: str, found: str | None
) -> None:
    route = TABLE.find(method.encode(), path.encode("latin-1"))
    assert (route and route.path) == found
