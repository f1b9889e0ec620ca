"""The server under test: where it is, whether it is heartcast, how to get in, what it uses.

Whatever is wrong is said in one sentence before anything is measured.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import jwt
import msgspec

from heartcast.core.clock import Clock
from heartcast.core.errors import Forbidden, InvalidInput, Unavailable
from heartcast.loadtest.http import Pool, request

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TOKEN_TTL_S = 24 * 3600
_METRIC = re.compile(rb"^(process_cpu_seconds_total|process_resident_memory_bytes) (\S+)", re.MULTILINE)


class _Token(msgspec.Struct):
    token: str


class _Health(msgspec.Struct):
    status: str
    shards: list[msgspec.Raw]


_decode_token = msgspec.json.Decoder(_Token).decode
_decode_health = msgspec.json.Decoder(_Health).decode
_encode = msgspec.json.Encoder().encode


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where the server is and what opens it."""

    url: str
    """Without a slash at the end."""
    host: str
    port: int
    is_tls: bool = False
    api_key: str = ""
    """Sent with what only servers may do; "": nothing is."""
    secret: str = ""
    """Key that tokens of users are signed with; "": they are asked of the server's dev mode."""
    verify_tls: bool = True
    ca: str = ""
    """File with the certificates that are believed; "": those of the machine."""

    @classmethod
    def parse(
        cls, url: str, *, api_key: str = "", secret: str = "", verify_tls: bool = True, ca: str = ""
    ) -> Target:
        """Read an address such as ``http://127.0.0.1:8080``.

        Raises:
            InvalidInput: it is no such address, or the file of certificates is none.
        """
        parts = urlsplit(url if "//" in url else f"http://{url}")
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in ("http", "https") or not parts.hostname or port == -1 or parts.path.strip("/"):
            raise InvalidInput(f"{url!r} is not the address of a server, such as http://127.0.0.1:8080")
        is_tls = parts.scheme == "https"
        if ca and not verify_tls:
            raise InvalidInput("--ca says whom to believe and --insecure to believe anybody: leave one out")
        if ca and not is_tls:
            raise InvalidInput(f"--ca needs an address that begins with https, not {url!r}")
        port = port if port is not None else (443 if is_tls else 80)
        target = cls(
            url=f"{parts.scheme}://{parts.netloc}",
            host=parts.hostname,
            port=port,
            is_tls=is_tls,
            api_key=api_key,
            secret=secret,
            verify_tls=verify_tls,
            ca=ca,
        )
        target.tls()
        return target

    @property
    def is_loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    def tls(self) -> ssl.SSLContext | None:
        """How connections are secured; None: they are not.

        Raises:
            InvalidInput: the file of certificates cannot be read.
        """
        if not self.is_tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca or None)
        except (OSError, ssl.SSLError) as error:
            raise InvalidInput(f"cannot read certificates from {self.ca}: {error}") from error
        if not self.verify_tls:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    @property
    def authority(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def server_authorization(self) -> str:
        """Value of the Authorization header of the operator's servers; "" for none."""
        return f"apikey {self.api_key}" if self.api_key else ""

    def request(self, method: str, path: str, body: bytes = b"") -> bytes:
        """A request as the operator's server sends it."""
        return request(method, path, self.authority, body, self.server_authorization)


class Asker:
    """Single requests, one after another or many at once, before and after the load."""

    def __init__(self, clock: Clock, target: Target) -> None:
        self._target = target
        self._pool = Pool(clock, target.host, target.port, target.tls(), self._answered)

    async def open(self) -> None:
        await self._pool.open(1)

    async def close(self) -> None:
        await self._pool.close()

    def _answered(self, tag: asyncio.Future[tuple[int, bytes]], status: int, body: bytes, _: int) -> None:
        if not tag.done():
            tag.set_result((status, body))

    async def ask(
        self, method: str, path: str, body: bytes = b"", timeout_s: float = 15.0
    ) -> tuple[int, bytes]:
        """Status and body; (0, b"") when no answer came in time."""
        return (await self.ask_all([self._target.request(method, path, body)], timeout_s))[0]

    async def ask_all(self, requests: Sequence[bytes], timeout_s: float = 60.0) -> list[tuple[int, bytes]]:
        """Answers in the order of the requests."""
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[tuple[int, bytes]]] = [loop.create_future() for _ in requests]
        connection = self._pool.connections[0]
        for future, each in zip(futures, requests, strict=True):
            connection.ask(future, each, 0)
        connection.flush()
        if futures:
            await asyncio.wait(futures, timeout=timeout_s)
        return [future.result() if future.done() else (0, b"") for future in futures]


async def meet(asker: Asker, target: Target) -> None:
    """Make sure that a heartcast answers there.

    Raises:
        Unavailable: nothing answers, or something that is not heartcast.
    """
    try:
        await asker.open()
    except Unavailable as error:
        if isinstance(error.__cause__, ssl.SSLCertVerificationError):
            raise Unavailable(
                f"nobody known here vouches for the certificate of {target.url}: name the file of its CA "
                f"with --ca, or do not check with --insecure ({error.__cause__.verify_message})"
            ) from error
        raise Unavailable(
            f"no server answers at {target.url}; start one with 'heartcast serve', or name another with --url"
        ) from error
    status, body = await asker.ask("GET", "/healthz", timeout_s=5.0)
    if status == 0:
        raise Unavailable(f"{target.url} takes connections and does not answer")
    try:
        health = _decode_health(body)
    except ValueError:
        raise Unavailable(f"{target.url} answers, but is not heartcast") from None
    if status != 200:
        raise Unavailable(f"{target.url} says that it is {health.status}; see {target.url}/healthz")


async def may_send(asker: Asker, target: Target) -> None:
    """Make sure that we may push and publish.

    Raises:
        Forbidden: the server wants an API key, or another one.
    """
    status, _ = await asker.ask("POST", "/api/info", b"{}")
    if status in (401, 403):
        raise Forbidden(
            f"{target.url} does not know this API key"
            if target.api_key
            else f"{target.url} runs in prod mode: give --api-key, and --secret for the users' tokens"
        )


async def tokens(asker: Asker, target: Target, users: Sequence[str], wall_ms: int) -> list[str]:
    """A token for each user.

    Raises:
        Forbidden: the server gives none and no secret was named.
    """
    if target.secret:
        expires_s = wall_ms // 1000 + _TOKEN_TTL_S
        return [
            jwt.encode({"sub": user, "exp": expires_s}, target.secret, algorithm="HS256") for user in users
        ]
    path = "/api/v1/dev/token"
    answers = await asker.ask_all(
        [target.request("POST", path, _encode({"user_id": user})) for user in users]
    )
    if any(status != 200 for status, _ in answers):
        raise Forbidden(
            f"{target.url} gives no tokens (it is not in dev mode on loopback): "
            "give --secret, the server's auth.jwt_secret"
        )
    return [_decode_token(body).token for _, body in answers]


class Usage(msgspec.Struct, frozen=True):
    """What a process has used so far."""

    cpu_s: float
    rss_bytes: int


def usage_of(pid: int) -> Usage | None:
    """Processor time with all threads, and resident memory; None when the process is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return Usage((int(fields[11]) + int(fields[12])) / _TICKS_PER_S, int(fields[21]) * _PAGE_BYTES)


def waited_s(pid: int) -> float:
    """How long the main thread of a process was ready to run and had no core; 0 where nobody tells."""
    try:
        return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def usage_in(metrics: bytes) -> Usage | None:
    """The same, out of a Prometheus text; None when it does not say."""
    found = {name: float(value) for name, value in _METRIC.findall(metrics)}
    if len(found) < 2:
        return None
    return Usage(found[b"process_cpu_seconds_total"], round(found[b"process_resident_memory_bytes"]))


def pid_listening(port: int) -> int | None:
    """The local process that listens on this port; None when it is not ours to see."""
    inodes = _listening_inodes(port)
    for fd in Path("/proc").glob("[0-9]*/fd/*") if inodes else ():
        try:
            link = fd.readlink().name
        except OSError:
            continue
        if link in inodes:
            return int(fd.parts[2])
    return None


def _listening_inodes(port: int) -> set[str]:
    inodes: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    return inodes
