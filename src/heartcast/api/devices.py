"""``POST /api/v1/visitors``: a name for a browser whose user is nobody."""

from __future__ import annotations

import msgspec

from heartcast.api.auth.devices import COOKIE, Devices
from heartcast.api.route import Answer, Call, Route


class VisitorAnswer(msgspec.Struct, frozen=True):
    """Who the visitor is from now on."""

    user_id: str
    """What hearts are given as."""
    proof: str
    """For ``Authorization: Visitor <proof>``, where the cookie does not travel."""


_encode = msgspec.json.Encoder().encode


def routes(devices: Devices, *, is_secure: bool) -> list[Route]:
    """The route of visitors.

    Args:
        is_secure: Whether browsers may send the cookie over TLS only.
    """
    limits = f"Path=/; Max-Age={devices.max_age_s}; HttpOnly; SameSite=Strict" + "; Secure" * is_secure

    def name(call: Call) -> Answer:
        known = devices.of(call.headers)
        # A browser that is known keeps its name, or its hearts would be somebody else's.
        if known is None or not known.is_fresh:
            known = devices.issue(known.user if known is not None else None)
        cookie = f"{COOKIE}={known.proof}; {limits}".encode()
        headers = ((b"set-cookie", cookie), (b"cache-control", b"no-store"))
        return Answer(200, _encode(VisitorAnswer(known.user, known.proof)), headers)

    return [
        Route(
            method="POST",
            path="/api/v1/visitors",
            handler=name,
            summary="A signed name for this browser, kept in a cookie; the same one when it has one.",
            tag="hearts",
            answers={200: VisitorAnswer},
            is_public=True,
            budget="hearts",
        )
    ]
