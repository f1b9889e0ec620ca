"""Answers that a cache may have already."""

from __future__ import annotations


def matches(if_none_match: bytes | None, etag: bytes) -> bool:
    """Whether a cache has what this tag names.

    RFC 9110, 13.1.2: weak comparison, a list, or ``*``.
    """
    if if_none_match is None:
        return False
    candidates = [part.strip().removeprefix(b"W/") for part in if_none_match.split(b",")]
    return etag.removeprefix(b"W/") in candidates or b"*" in candidates
