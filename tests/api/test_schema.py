"""Our own OpenAPI document, taken at its word: every operation with whatever fits it and what does not.

schemathesis makes up the requests. Whatever is sent, no answer is a 5xx, each has a status that
the document knows with a body of the type that it promises, and everything else is a problem.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx2
import pytest

from heartcast.testing.server import running

try:
    import schemathesis
    from schemathesis import GenerationMode
    from schemathesis.checks import load_all_checks, not_a_server_error
    from schemathesis.core.failures import Failure, FailureGroup
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_headers_conformance,
        response_schema_conformance,
        status_code_conformance,
    )
except ImportError:
    if os.environ.get("CI"):
        raise
    pytest.skip("schemathesis is not installed: the API was not fuzzed", allow_module_level=True)
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

EXAMPLES = int(os.environ.get("SCHEMA_EXAMPLES", "5"))
ENDLESS = r"/api/v1/stream"
"""Event streams do not end."""

load_all_checks()
# The document gives types and not every rule (an id may not be empty), so that a request fits it
# does not mean that it is accepted.
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]


def check_status(documented: dict[str, Any], answer: Any) -> None:
    """The document has a ``default``, which would let any status pass: it is for problems only."""
    if str(answer.status_code) in documented:
        return
    assert answer.status_code >= 400, f"{answer.status_code} is not documented"
    assert answer.headers["content-type"] == ["application/problem+json"]
    assert answer.json()["status"] == answer.status_code


@pytest.fixture(scope="module")
def schema() -> Iterator[Any]:
    environ = {
        "HEARTCAST_RANKING__RECOMMENDATIONS": "on",
        "HEARTCAST_HEARTS__KINDS": '["heart", "star"]',
        "HEARTCAST_HEARTS__VISITOR_KINDS": '["heart"]',
    }
    with running("--in-memory", environ=environ) as server:
        loaded = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
        yield loaded.exclude(path_regex=ENDLESS)
        assert httpx2.get(f"{server.url}/livez").status_code == 200
        assert "Traceback" not in server.log.read_text()


def faults(operation: Any, mode: GenerationMode) -> str | None:
    """What an operation does that it should not; None: nothing.

    Raises:
        Unsatisfiable: there is no request that does not fit it: it takes nothing.
    """

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def holds(case: Any) -> None:
        answer = case.call()
        case.validate_response(answer, checks=CHECKS)
        check_status(operation.definition.raw["responses"], answer)

    try:
        holds()
    except (FailureGroup, Failure, AssertionError) as failure:
        return f"{operation.label}: {failure}"
    return None


@pytest.mark.timeout(150)
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_every_operation_does_what_its_document_says(schema: Any, mode: GenerationMode) -> None:
    found: list[str | None] = []
    for operation in schema.get_all_operations():
        with suppress(Unsatisfiable):
            found.append(faults(operation.ok(), mode))

    assert len(found) > 20
    assert [fault for fault in found if fault] == []
