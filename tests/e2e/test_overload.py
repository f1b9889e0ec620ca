"""Real servers that are offered three times what they can carry, on both HTTP paths.

How much that is differs from machine to machine, so it is measured first; what is asserted are
shares. The figures of a quiet machine are in docs/reference/benchmarks.md.
"""

import json

import pytest

from benchmarks.overload import measure


@pytest.mark.timeout(60)
@pytest.mark.parametrize("is_hot", [True, False], ids=["hot path", "Litestar"])
def test_at_three_times_its_capacity_a_server_goes_on_working_and_answers_what_is_critical(
    is_hot: bool,
) -> None:
    found = measure(is_hot=is_hot, each=100, seconds=2.0, after_s=1.0, clients=2000)
    load, critical, after = found["overload"]["load"], found["overload"]["critical"], found["afterwards"]

    assert found["goodput_of_capacity"] >= 0.5
    assert found["critical_good"] >= 0.99
    assert critical["refused"] == 0
    assert load["refused"] > 0
    assert (load["unanswered"], load["failed"]) == (0, 0)

    head, _, body = found["overload"]["refusal"].partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 503 ")
    assert "content-type: application/problem+json\r\n" in head.lower() + "\r\n"
    assert "retry-after: 1\r\n" in head.lower() + "\r\n"
    assert json.loads(body)["code"] == "shed"

    assert after["load"]["good"] >= 0.95 * sum(
        after["load"][end] for end in ("good", "refused", "late", "unanswered", "never_sent")
    )
