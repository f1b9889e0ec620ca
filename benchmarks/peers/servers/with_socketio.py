"""A channel of python-socketio: everyone connected hears what is posted. Keeps nothing."""
# mypy: ignore-errors

import json

import socketio

sio = socketio.AsyncServer(async_mode="asgi", cors_allowed_origins="*")


async def publish(scope, receive, send) -> None:
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        event = await receive()
        body += event.get("body", b"")
        more = event.get("more_body", False)
    await sio.emit("message", json.loads(body))
    await send({"type": "http.response.start", "status": 202, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


app = socketio.ASGIApp(sio, publish)
