"""Limits as HTTP says them."""

import pytest

from heartcast.resilience.limits import KeyedLimiter, Limit
from heartcast.resilience.limits.headers import client_of, policy_header, retry_after, state_header


def test_headers_say_the_policy_what_is_left_and_when_to_come_back() -> None:
    limit = Limit.parse("10/min")
    limiter = KeyedLimiter(limit)
    for _ in range(4):
        decision = limiter.decide("u", 0)

    assert policy_header("hearts", limit) == b'"hearts";q=10;w=60'
    assert state_header("hearts", decision) == b'"hearts";r=6;t=24'
    assert [retry_after(ns) for ns in (1, 10**9, 10**9 + 1)] == [b"1", b"1", b"2"]


def test_a_name_cannot_break_out_of_its_header() -> None:
    assert policy_header('a"\r\nX: 1\\é', Limit.parse("1/s")) == b'"a___X: 1__";q=1;w=1'


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::ffff", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("not:an:address", "not:an:address"),
        ("", ""),
    ],
)
def test_a_client_is_an_ipv4_address_or_an_ipv6_network(address: str, client: str) -> None:
    assert client_of(address) == client
