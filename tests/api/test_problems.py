"""Every error has a status, a stable code, and says nothing it should not."""

import json

import pytest

from heartcast.api.problems import internal_problem, problem
from heartcast.core import errors


def _classes(base: type[errors.HeartcastError]) -> list[type[errors.HeartcastError]]:
    return [base, *(found for sub in base.__subclasses__() for found in _classes(sub))]


@pytest.mark.parametrize("class_", _classes(errors.HeartcastError))
def test_every_error_class_makes_a_problem_with_its_own_code(class_: type[errors.HeartcastError]) -> None:
    answer = problem(class_("why"))
    document = json.loads(answer.body)

    assert answer.content_type == b"application/problem+json"
    assert document["status"] == answer.status >= 400
    assert document["code"] == class_.code
    assert document["type"] == f"/problems/{class_.code}"
    assert document["title"]
    assert "why" in document["detail"]


def test_an_unavailable_says_when_to_come_back() -> None:
    answer = problem(errors.Overloaded("full", retry_after_s=7))

    assert answer.status == 503
    assert (b"retry-after", b"7") in answer.headers


def test_a_field_error_points_at_the_field() -> None:
    document = json.loads(problem(errors.InvalidInput("bad", pointer="/a/0")).body)

    assert document["errors"] == [{"pointer": "/a/0", "detail": "bad"}]


def test_an_unauthenticated_names_the_scheme_to_use() -> None:
    assert (b"www-authenticate", b"Bearer") in problem(errors.Unauthenticated("who?")).headers


def test_an_unexpected_failure_says_nothing_of_the_inside() -> None:
    answer = internal_problem()

    assert answer.status == 500
    assert json.loads(answer.body)["code"] == "internal"
