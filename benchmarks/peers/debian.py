"""Peers that Debian packages: Nchan, a module of nginx; NATS; Mosquitto.

NATS gets one processor as the others have by nature. Mosquitto is spoken to in plain
MQTT over TCP, which spares it the frames that the others write.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers.peer import Peer, first_line, not_on_path, post
from benchmarks.subscribers import handshake, masked

_NCHAN = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
_NGINX = """load_module {module};
worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 19000; }}
http {{
  access_log off; keepalive_requests 10000000; client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/a; fastcgi_temp_path {folder}/b; uwsgi_temp_path {folder}/c;
  scgi_temp_path {folder}/d; nchan_message_buffer_length 100; nchan_message_timeout 5s;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    nchan_channel_id a;
    location = /sub {{ nchan_subscriber websocket; nchan_subscriber_first_message newest; }}
    location = /pub {{ nchan_publisher http; }}
  }}
}}
"""


def _no_nchan() -> str:
    reason = not_on_path("nginx", "nginx and libnginx-mod-nchan")
    return reason or (
        "" if _NCHAN.exists() else "nginx has no Nchan here; Debian has it as libnginx-mod-nchan"
    )


def _nchan(folder: Path, port: int, side_port: int) -> list[str]:
    written = folder / "nginx.conf"
    written.write_text(_NGINX.format(module=_NCHAN, folder=folder, port=port))
    return ["nginx", "-e", f"{folder}/error.log", "-c", str(written), "-p", str(folder)]


def _nats(folder: Path, port: int, side_port: int) -> list[str]:
    written = folder / "nats.conf"
    written.write_text(
        f'listen: 127.0.0.1:{side_port}\nmax_connections: 65000\nwrite_deadline: "10s"\n'
        f'websocket {{ listen: "127.0.0.1:{port}"; no_tls: true }}\n'
    )
    return ["env", "GOMAXPROCS=1", "nats-server", "-c", str(written)]


def _nats_publication(data: bytes) -> bytes:
    return b"PUB a %d\r\n%b\r\n" % (len(data), data)


_MQTT_CONNECT = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00"
_MQTT_SUBSCRIBE = b"\x82\x06\x00\x01\x00\x01a\x00"


def _mosquitto(folder: Path, port: int, side_port: int) -> list[str]:
    written = folder / "mosquitto.conf"
    written.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n")
    return ["mosquitto", "-c", str(written)]


def _mqtt_publication(data: bytes) -> bytes:
    size = len(data) + 3
    length = bytes([size]) if size < 128 else bytes([size % 128 | 128, size // 128])
    return b"\x30" + length + b"\x00\x01a" + data


PEERS = (
    Peer(
        name="Nchan",
        missing=_no_nchan,
        version=lambda: f"{first_line('nginx', '-v').rpartition(': ')[2]}, {_nchan_version()}",
        command=_nchan,
        hello=handshake("/sub"),
        ready=b"101 Switching",
        publication=lambda data: post("/pub", data, "text/plain"),
    ),
    Peer(
        name="NATS",
        missing=lambda: not_on_path("nats-server", "nats-server"),
        version=lambda: first_line("nats-server", "--version"),
        command=_nats,
        hello=handshake("/") + masked(b'CONNECT {"verbose":false}\r\nSUB a 1\r\nPING\r\n', opcode=2),
        ready=b"PONG",
        publication=_nats_publication,
        greeting=b'CONNECT {"verbose":false}\r\n',
        on_side_port=True,
    ),
    Peer(
        name="Mosquitto",
        missing=lambda: not_on_path("mosquitto", "mosquitto"),
        version=lambda: first_line("mosquitto", "-h"),
        command=_mosquitto,
        hello=_MQTT_CONNECT + _MQTT_SUBSCRIBE,
        ready=b"\x90\x03\x00\x01",
        publication=_mqtt_publication,
        greeting=_MQTT_CONNECT,
    ),
)


def _nchan_version() -> str:
    return first_line("dpkg-query", "-W", "-f", "nchan ${Version}", "libnginx-mod-nchan")
