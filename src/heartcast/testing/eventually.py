"""Waiting for a condition on a real server, never longer than said."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def eventually(condition: Callable[[], object], within_s: float = 10.0) -> None:
    """Return as soon as ``condition()`` is true.

    Raises:
        TimeoutError: it did not become true.
    """
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - the condition is on a real server
            await asyncio.sleep(0.005)
