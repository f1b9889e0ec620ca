"""What every store refuses, in the same words."""

from __future__ import annotations

from hashlib import blake2b

from heartcast.core.errors import InvalidInput, Overloaded


def fingerprint(data: bytes) -> str:
    """What tells two publications with one key apart."""
    return blake2b(data, digest_size=16).hexdigest()


def stream_full(topic: str) -> Overloaded:
    """The stream has no room: some group has not acknowledged what it was given."""
    return Overloaded(
        f"the stream {topic[:50]!r} is full: a group has not acknowledged its oldest entries",
        retry_after_s=5,
        code="stream_full",
    )


def streams_full() -> Overloaded:
    """There are as many streams as may be."""
    return Overloaded("as many streams are kept as may be", retry_after_s=60, code="streams_full")


def key_reused() -> InvalidInput:
    """The key belongs to other data."""
    return InvalidInput("this Idempotency-Key was used with another body", code="idempotency_key_reused")
