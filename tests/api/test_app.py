"""The Litestar application: one behaviour for every route of the table."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx2
import msgspec
import pytest

from heartcast.api.app import application
from heartcast.api.auth import Authenticator, AuthOptions
from heartcast.api.body import decoder
from heartcast.api.openapi import document
from heartcast.api.route import Answer, Call, Parameter, Route
from heartcast.core.errors import NotFound
from heartcast.testing import ManualClock


class Body(msgspec.Struct, forbid_unknown_fields=True):
    number: int


JSON = {"content-type": "application/json"}
_decode = decoder(Body)


def _at_once(call: Call) -> Answer:
    return Answer(201, b'{"number":%d}' % _decode(call.body).number, ((b"location", b"/x"),))


def _later(call: Call) -> None:
    asyncio.get_running_loop().call_soon(call.respond, Answer(200, b'"later"'))


async def _named(call: Call) -> Answer:
    return Answer(200, json.dumps([call.params["name"], call.query_values()]).encode())


def _missing(call: Call) -> Answer:
    raise NotFound("no such thing", code="thing_unknown")


def _broken(call: Call) -> Answer:
    raise RuntimeError("a secret of the inside")


def _who(call: Call) -> Answer:
    return Answer(200, json.dumps([call.identity.user, call.identity.is_server]).encode())


ROUTES = [
    Route(
        method="POST",
        path="/things",
        handler=_at_once,
        summary="Make.",
        tag="t",
        body=Body,
        answers={201: Body},
    ),
    Route(method="GET", path="/later", handler=_later, summary="Wait.", tag="t"),
    Route(
        method="GET",
        path="/things/{name}",
        handler=_named,
        summary="Find.",
        tag="t",
        parameters=(Parameter(name="limit", summary="How many.", type=int),),
    ),
    Route(method="DELETE", path="/things/{name}", handler=_missing, summary="Drop.", tag="t"),
    Route(method="GET", path="/broken", handler=_broken, summary="Break.", tag="t"),
    Route(method="GET", path="/who", handler=_who, summary="Who.", tag="t"),
    Route(method="GET", path="/public", handler=_who, summary="Anyone.", tag="t", is_public=True),
]


@pytest.fixture
def raised() -> list[str]:
    return []


@pytest.fixture
async def client(raised: list[str]) -> AsyncIterator[httpx2.AsyncClient]:
    authenticator = Authenticator(AuthOptions(jwt_secret="s" * 32), ManualClock(), is_open=True)
    app = application(ROUTES, authenticator, lambda route, error: raised.append(f"{route.path}: {error}"))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://test") as client:
        yield client


async def test_an_answer_keeps_its_status_body_and_headers(client: httpx2.AsyncClient) -> None:
    response = await client.post("/things", content=b'{"number":7}', headers=JSON)

    assert (response.status_code, response.content) == (201, b'{"number":7}')
    assert response.headers["content-type"] == "application/json"
    assert response.headers["location"] == "/x"


@pytest.mark.parametrize("headers", [{}, {"content-type": "text/plain"}])
async def test_a_body_that_does_not_say_it_is_json_is_refused(
    client: httpx2.AsyncClient, headers: dict[str, str]
) -> None:
    response = await client.post("/things", content=b'{"number":7}', headers=headers)

    assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")


async def test_a_handler_may_answer_later(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/later")).json() == "later"


async def test_path_and_query_reach_the_handler(client: httpx2.AsyncClient) -> None:
    response = await client.get("/things/f%C3%BC?limit=5&limit=6&empty=")

    assert response.json() == ["fü", {"limit": ["5", "6"], "empty": [""]}]


async def test_errors_become_problems(client: httpx2.AsyncClient) -> None:
    missing = await client.delete("/things/a")
    invalid = await client.post("/things", content=b'{"number":"x"}', headers=JSON)
    malformed = await client.post("/things", content=b"{", headers=JSON)

    assert (missing.status_code, missing.json()["code"]) == (404, "thing_unknown")
    assert (invalid.status_code, invalid.json()["errors"][0]["pointer"]) == (422, "/number")
    assert (malformed.status_code, malformed.json()["code"]) == (400, "malformed_body")


async def test_a_handler_that_fails_is_reported_and_tells_the_client_nothing(
    client: httpx2.AsyncClient, raised: list[str]
) -> None:
    response = await client.get("/broken")

    assert response.status_code == 500
    assert "secret" not in response.text
    assert raised == ["/broken: a secret of the inside"]


async def test_unknown_paths_and_methods_are_problems_too(client: httpx2.AsyncClient) -> None:
    unknown = await client.get("/nowhere")
    wrong = await client.put("/things/a")

    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "DELETE, GET, HEAD, OPTIONS"


async def test_options_lists_every_method_of_the_path(client: httpx2.AsyncClient) -> None:
    response = await client.options("/things/a")

    assert response.status_code == 204
    assert response.headers["allow"] == "DELETE, GET, HEAD, OPTIONS"


async def test_the_identity_is_checked_except_on_public_routes(client: httpx2.AsyncClient) -> None:
    forged = {"authorization": "Bearer forged"}

    assert (await client.get("/who")).json() == [None, True]
    assert (await client.get("/who", headers=forged)).status_code == 401
    assert (await client.get("/public", headers=forged)).json() == [None, False]


def test_the_document_describes_every_route_with_the_handlers_own_types() -> None:
    described = document(ROUTES)

    assert described["openapi"].startswith("3.1")
    assert {(path, method.upper()) for path, methods in described["paths"].items() for method in methods} == {
        (route.path, route.method) for route in ROUTES
    }
    post = described["paths"]["/things"]["post"]
    assert post["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/Body"
    }
    assert described["components"]["schemas"]["Body"]["required"] == ["number"]
    assert "Problem" in described["components"]["schemas"]
    names = [parameter["name"] for parameter in described["paths"]["/things/{name}"]["get"]["parameters"]]
    assert names == ["name", "limit"]
