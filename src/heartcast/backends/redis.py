"""Redis or Valkey: a connection that answers soon or not at all, and scripts that are there when asked for.

The client's own retries are off and every command has a timeout: whoever calls knows
better what to do about a server that is slow than to wait for it. Scripts go by their
hash; a server that lost them (restart, failover, SCRIPT FLUSH) says NOSCRIPT and gets
the text once more. No words of any domain stand here.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from heartcast.core.errors import StoreUnavailable


class WrongAnswer(StoreUnavailable):
    """The server answered with an error: what it holds at a key is not what we wrote."""

    code = "store_wrong_type"
    retryable = False


class Script:
    """A Lua script and its hash."""

    __slots__ = ("sha", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        # Redis names scripts by SHA-1; nothing is kept secret by it.
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class RedisLink:
    """Connections to one server, opened when needed. Close it at the end.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        timeout_s: Longest wait for a connection and for an answer, seconds, > 0.
        max_connections: Commands under way at a time; more wait for up to ``timeout_s``.
    """

    __slots__ = ("_client", "_execute", "_timeout_s", "reloads")

    def __init__(self, url: str, *, timeout_s: float = 0.05, max_connections: int = 16) -> None:
        if not 0 < timeout_s < 1e6 or max_connections < 1:
            raise ValueError(
                f"timeout_s: must be > 0 and max_connections >= 1, got {timeout_s}, {max_connections}"
            )
        self._timeout_s = timeout_s
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=max_connections,
            timeout=timeout_s,
            # Connecting is bounded by the timeout around the whole command; a second,
            # equal timer per read would cost as much as the command itself.
            socket_timeout=None,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
        )
        self._client: Redis = Redis(connection_pool=pool)
        # The client leaves its parameters untyped; what comes back depends on the command.
        self._execute: Callable[..., Awaitable[Any]] = self._client.execute_command
        self.reloads = 0
        """Scripts sent again because the server had lost them."""

    async def run(self, *command: Any) -> Any:
        """One command.

        Raises:
            StoreUnavailable: no answer in time, or no connection.
            WrongAnswer: the server refused the command, for a wrong type for example.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._execute(*command)
        except ResponseError as error:
            raise _translate(error) from error
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreUnavailable(f"redis: {type(error).__name__}: {error}") from error

    async def run_all(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Several commands in one round trip; not a transaction. Raises as ``run`` does."""
        try:
            async with asyncio.timeout(self._timeout_s):
                pipeline = self._client.pipeline(transaction=False)
                for command in commands:
                    pipeline.execute_command(*command)
                return await pipeline.execute()
        except ResponseError as error:
            raise _translate(error) from error
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreUnavailable(f"redis: {type(error).__name__}: {error}") from error

    async def eval(self, script: Script, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run a script in one round trip, two when the server does not know it yet. Raises as ``run``."""
        try:
            async with asyncio.timeout(self._timeout_s):
                try:
                    return await self._execute("EVALSHA", script.sha, len(keys), *keys, *args)
                except NoScriptError:
                    # It was not run, so running it now runs it once.
                    self.reloads += 1
                    return await self._execute("EVAL", script.text, len(keys), *keys, *args)
        except ResponseError as error:
            raise _translate(error) from error
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreUnavailable(f"redis: {type(error).__name__}: {error}") from error

    async def close(self) -> None:
        await self._client.aclose(close_connection_pool=True)


def _translate(error: ResponseError) -> StoreUnavailable:
    text = str(error)
    if text.startswith(("WRONGTYPE", "HCSTATE")) or "WRONGTYPE" in text or "HCSTATE" in text:
        return WrongAnswer(f"redis holds something else at our key: {text}")
    # LOADING, READONLY, OOM, MASTERDOWN …: true now, not for ever.
    return StoreUnavailable(f"redis: {text}")
