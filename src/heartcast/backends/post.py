"""Posting small bodies to servers that somebody else chose, again and again.

What ``fetch`` is for one document, this is for a stream of messages: the same bounds on
time, size and place, over connections that are kept. A connection is made to an address
that was judged, carries one exchange at a time, and is left after a while, so that a name
that moved is followed. Whatever status the server gives is an answer; only no answer is an
error. Redirects are answers too, and not followed.

A kept connection may be closed by its server at the moment in which it is used again. A
post that got not one byte back that way is sent once more over a new connection: whoever
receives posts must know repetitions by their id in any case.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from urllib.parse import SplitResult, urlsplit

import httptools

from heartcast.backends.exchange import Exchange, Reply
from heartcast.backends.fetch import Bounds, is_public, judged_address
from heartcast.core.clock import Clock, SystemClock
from heartcast.core.errors import InvalidInput, Unavailable

MAX_URL_BYTES = 2_000
_OUR_HEADERS = frozenset(("host", "content-length", "transfer-encoding", "connection"))


def check_url(url: str, allow_private: bool, pointer: str = "") -> None:
    """Whether this may be posted to, as far as can be told without asking anybody.

    Raises:
        InvalidInput: it is no http(s) URL (code ``webhook_url``), or leads to an address
            inside (``webhook_private_address``). A name is judged later, when it is resolved.
    """
    try:
        split = urlsplit(url)
        host = split.hostname or ""
        is_fine = split.port != 0 and bool(host) and split.scheme in ("http", "https")
    except ValueError:
        is_fine = False
    printable = all("!" <= character <= "~" for character in url)
    if not is_fine or not printable or len(url) > MAX_URL_BYTES or "@" in split.netloc:
        raise InvalidInput(
            "must be an http or https URL in ASCII without user name and password",
            pointer=pointer,
            code="webhook_url",
        )
    if allow_private:
        return
    if host == "localhost" or host.endswith(".localhost") or _is_inner(host):
        raise InvalidInput(
            "must not lead to a private address", pointer=pointer, code="webhook_private_address"
        )
    if split.scheme != "https":
        raise InvalidInput("must be https", pointer=pointer, code="webhook_url")


def _is_inner(host: str) -> bool:
    try:
        return not is_public(host)
    except ValueError:
        return False


class Poster:
    """Posts, and keeps connections for the next post.

    Args:
        bounds: Of each post, waiting for a connection included.
        per_host: Connections to one host and port, >= 1; more posts wait for one.
        max_idle: Connections kept without work, all hosts together.
        idle_s: Seconds that one is kept without work. Servers close theirs after a minute or so.
        max_age_s: Seconds after which one is not used again, so that DNS is followed.
        tls: Whose certificates are believed; None: the system's.
    """

    def __init__(
        self,
        bounds: Bounds,
        *,
        per_host: int = 8,
        max_idle: int = 256,
        idle_s: float = 20.0,
        max_age_s: float = 300.0,
        tls: ssl.SSLContext | None = None,
        clock: Clock | None = None,
    ) -> None:
        if per_host < 1:
            raise ValueError(f"per_host: must be >= 1, got {per_host}")
        self._bounds = bounds
        self._per_host = per_host
        self._max_idle = max_idle
        self._idle_s = idle_s
        self._max_age_s = max_age_s
        self._tls = tls
        self._clock = clock or SystemClock()
        self._hosts: dict[tuple[str, str, int], _Host] = {}
        self._idle = 0
        self._reaping: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.opened = 0
        """Connections made."""

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Send one body and read the answer.

        Args:
            headers: Beside host and length; their values must be printable ASCII.

        Raises:
            Unavailable: code ``post_failed``; there was no whole answer in time, or the address
                is refused. The message never holds path, query or credentials of the URL.
            ValueError: a header cannot be sent.
        """
        extra = _packed(headers)
        split = urlsplit(url)
        try:
            async with asyncio.timeout(self._bounds.timeout_s):
                return await self._post(split, body, extra)
        except TimeoutError:
            reason = f"no whole answer within {self._bounds.timeout_s:g} s"
        except (OSError, httptools.HttpParserError, UnicodeError, ValueError) as error:
            reason = str(error) or type(error).__name__
        raise Unavailable(f"cannot post to {split.hostname}: {reason}", code="post_failed") from None

    def begin(
        self, url: str, body: bytes, headers: Mapping[str, str], done: Callable[[Reply | Unavailable], None]
    ) -> None:
        """``post`` for those who do not wait; ``done`` is called exactly once, also when this is closed."""
        task = asyncio.get_running_loop().create_task(self._run(url, body, headers, done))
        # The loop itself holds tasks weakly.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(
        self, url: str, body: bytes, headers: Mapping[str, str], done: Callable[[Reply | Unavailable], None]
    ) -> None:
        reply: Reply | Unavailable = Unavailable("posting has ended", code="post_failed")
        try:
            reply = await self.post(url, body, headers)
        except Unavailable as error:
            reply = error
        finally:
            done(reply)

    def close(self) -> None:
        """Leave all connections; posts that are under way fail."""
        self._is_closed = True
        if self._reaping is not None:
            self._reaping.cancel()
        for host in self._hosts.values():
            for connection in (*host.idle, *host.busy):
                connection.abort()
            for waiter in host.waiters:
                waiter.cancel()
        self._hosts.clear()

    @property
    def connections(self) -> int:
        """Connections that are open."""
        return sum(len(host.idle) + len(host.busy) for host in self._hosts.values())

    async def _post(self, url: SplitResult, body: bytes, extra: bytes) -> Reply:
        is_tls = url.scheme == "https"
        key = (url.scheme, url.hostname or "", url.port or (443 if is_tls else 80))
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        head = (
            f"POST {path} HTTP/1.1\r\nhost: {url.netloc.rpartition('@')[2]}\r\n"
            f"content-length: {len(body)}\r\naccept-encoding: identity\r\nuser-agent: heartcast\r\n"
        ).encode("ascii")
        request = b"%b%b\r\n%b" % (head, extra, body)
        host = self._hosts.get(key)
        if host is None:
            host = self._hosts[key] = _Host()
        await self._enter(host)
        try:
            reply = await self._over_kept(host, request)
            return reply or await self._over_new(key, host, request)
        finally:
            self._leave(key, host)

    async def _enter(self, host: _Host) -> None:
        """Wait until one more connection to this host may be used."""
        if self._is_closed:
            raise OSError("posting has ended")
        if host.users < self._per_host:
            host.users += 1
            return
        waiter = asyncio.get_running_loop().create_future()
        host.waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._hand_on(host)
            else:
                host.waiters.remove(waiter)
            raise

    def _leave(self, key: tuple[str, str, int], host: _Host) -> None:
        self._hand_on(host)
        if not host.users and not host.idle:
            self._hosts.pop(key, None)

    def _hand_on(self, host: _Host) -> None:
        """A place is free: the first who waits has it at once, so that nobody can overtake."""
        while host.waiters:
            waiter = host.waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        host.users -= 1

    async def _over_kept(self, host: _Host, request: bytes) -> Reply | None:
        """None: no kept connection was alive, nothing came back."""
        now_s = self._clock.monotonic_s()
        while host.idle:
            connection = host.idle.pop()
            self._idle -= 1
            is_old = now_s - connection.made_s > self._max_age_s or now_s - connection.used_s > self._idle_s
            if connection.is_lost or is_old:
                connection.abort()
                continue
            try:
                return await self._exchange(host, connection, request)
            except OSError:
                if connection.has_answered:
                    raise
                return None
        return None

    async def _over_new(self, key: tuple[str, str, int], host: _Host, request: bytes) -> Reply:
        scheme, name, port = key
        is_tls = scheme == "https"
        address = await judged_address(name, port, self._bounds.allow_private, is_tls=is_tls)
        if is_tls and self._tls is None:
            # Reading the system's certificates takes some 20 ms: once.
            self._tls = ssl.create_default_context()
        now_s = self._clock.monotonic_s()
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: Exchange(self._bounds.max_bytes, self._clock, now_s),
            address,
            port,
            ssl=self._tls if is_tls else None,
            server_hostname=name if is_tls else None,
        )
        self.opened += 1
        return await self._exchange(host, connection, request)

    async def _exchange(self, host: _Host, connection: Exchange, request: bytes) -> Reply:
        host.busy.add(connection)
        try:
            reply = await connection.exchange(request)
        except BaseException:
            connection.abort()
            raise
        finally:
            host.busy.discard(connection)
        if connection.keeps and self._idle < self._max_idle and not self._is_closed:
            connection.used_s = self._clock.monotonic_s()
            host.idle.append(connection)
            self._idle += 1
            if self._reaping is None:
                self._reaping = asyncio.get_running_loop().call_later(self._idle_s, self._reap)
        else:
            connection.abort()
        return reply

    def _reap(self) -> None:
        """Leave what was idle for too long."""
        now_s = self._clock.monotonic_s()
        for key, host in list(self._hosts.items()):
            kept = [one for one in host.idle if not one.is_lost and now_s - one.used_s < self._idle_s]
            for connection in host.idle:
                if connection not in kept:
                    connection.abort()
            self._idle -= len(host.idle) - len(kept)
            host.idle = kept
            if not host.users and not kept:
                del self._hosts[key]
        timer = asyncio.get_running_loop().call_later
        self._reaping = timer(self._idle_s, self._reap) if self._idle else None


class _Host:
    """Connections to one host and port."""

    __slots__ = ("busy", "idle", "users", "waiters")

    def __init__(self) -> None:
        self.idle: list[Exchange] = []
        self.busy: set[Exchange] = set()
        self.users = 0
        """Posts that have a connection or are making one."""
        self.waiters: deque[asyncio.Future[None]] = deque()


def _packed(headers: Mapping[str, str]) -> bytes:
    for name, value in headers.items():
        if name.lower() in _OUR_HEADERS or not name.replace("-", "").isalnum() or not value.isprintable():
            raise ValueError(f"header {name!r} cannot be sent")
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("ascii")
