"""Listening, failing to listen, TLS, and stopping by signal."""

import asyncio
import os
import signal
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from heartcast.api.route import Answer, Route
from heartcast.core.errors import SettingsError
from heartcast.gateway.options import HttpOptions
from heartcast.gateway.port import HttpPort
from heartcast.gateway.server import Server
from heartcast.testing import ManualClock


async def cold(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


def make(**options: Any) -> Server:
    route = Route(
        method="GET", path="/hot", handler=lambda call: Answer(200, b"{}"), summary="x", tag="x", hot=True
    )
    port = HttpPort(HttpOptions(**{"port": 0, **options}), [route], clock=ManualClock())
    return Server(port, cold, tunes_collector=False)


async def ask(server: Server, **options: Any) -> bytes:
    reader, writer = await asyncio.open_connection(*server.addresses[0], **options)
    writer.write(b"GET /hot HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer


async def test_port_0_takes_a_free_port_and_says_which() -> None:
    server = make()
    task = asyncio.ensure_future(server.serve())
    await server.ready.wait()
    assert server.addresses[0][1] > 0
    assert server.url == f"http://127.0.0.1:{server.addresses[0][1]}"
    assert (await ask(server)).startswith(b"HTTP/1.1 200 OK\r\n")
    server.stop()
    await task


async def test_a_port_in_use_is_one_plain_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"^http.port: 127.0.0.1:{number} is already in use; "):
            await make(port=number).serve()


async def test_a_host_that_is_not_ours_is_one_plain_sentence() -> None:
    with pytest.raises(SettingsError, match=r"^http.host: 192.0.2.1 is not an address of this machine$"):
        await make(host="192.0.2.1").serve()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_stops_the_server_and_is_not_raised_again(number: signal.Signals) -> None:
    server = make()
    task = asyncio.ensure_future(server.serve())
    await server.ready.wait()
    os.kill(os.getpid(), number)
    async with asyncio.timeout(5):
        await task
    assert signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)


async def test_it_serves_tls(certificate: tuple[Path, Path]) -> None:
    cert_file, key_file = certificate
    server = make(tls_cert=str(cert_file), tls_key=str(key_file))
    task = asyncio.ensure_future(server.serve())
    await server.ready.wait()
    assert server.url.startswith("https://")
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    answer = await ask(server, ssl=context)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"{}")
    server.stop()
    await task


def test_a_certificate_that_cannot_be_used_is_one_plain_sentence(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    missing = tmp_path / "nothing.pem"
    with pytest.raises(SettingsError, match=r"^http\.tls_cert: cannot read .*: No such file or directory$"):
        make(tls_cert=str(missing))
    broken = tmp_path / "broken.pem"
    broken.write_text("nonsense")
    with pytest.raises(SettingsError, match=r"^http\.tls_cert: .*broken\.pem and its key cannot be used"):
        make(tls_cert=str(broken))


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"port": 70000}, "port"),
        ({"max_body_bytes": 0}, "max_body_bytes"),
        ({"header_timeout_s": 0.0}, "header_timeout_s"),
        ({"body_timeout_s": 1.0}, "body_timeout_s"),
        ({"drain_s": -1.0}, "drain_s"),
        ({"tls_key": "x"}, "tls_key"),
        ({"allowed_origins": ("example.org",)}, "allowed_origins"),
        ({"trusted_proxies": ("nginx",)}, "trusted_proxies"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(options: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: must be "):
        HttpOptions(**options)
