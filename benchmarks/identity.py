"""What identity costs on the hot path: a known JWT and an API key among usual headers.

python -m benchmarks.identity
"""

from __future__ import annotations

import time

from heartcast.api.auth import Authenticator, AuthOptions
from heartcast.core.clock import SystemClock

CALLS = 100_000
ROUNDS = 15
KEY = "an-api-key-of-a-server"


def microseconds(authenticator: Authenticator, headers: list[tuple[bytes, bytes]]) -> float:
    """Processor time per call, of the best round."""
    best_s = float("inf")
    for _ in range(ROUNDS):
        started_s = time.process_time()
        for _ in range(CALLS):
            authenticator.identify(headers, "")
        best_s = min(best_s, time.process_time() - started_s)
    return best_s / CALLS * 1e6


def run() -> dict[str, float]:
    """Microseconds to know a caller that was seen before."""
    options = AuthOptions(jwt_secret="a secret of more than thirty-two bytes", api_keys=[KEY])
    authenticator = Authenticator(options, SystemClock(), is_open=False)
    token = authenticator.issue("u456", ttl_s=3600).encode()
    usual = [(b"host", b"127.0.0.1:8080"), (b"accept", b"*/*"), (b"content-type", b"application/json")]
    shown = {
        "known_token_us": (b"authorization", b"Bearer " + token),
        "api_key_us": (b"x-api-key", KEY.encode()),
    }
    return {name: round(microseconds(authenticator, [*usual, header]), 2) for name, header in shown.items()}
