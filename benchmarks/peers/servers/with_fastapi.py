"""A channel and a push endpoint, as FastAPI's own pages teach them. Keeps nothing."""
# mypy: ignore-errors

from itertools import count
from typing import Any

from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from pydantic import BaseModel

app = FastAPI()
listeners: set[WebSocket] = set()
ids = count(1)


class Push(BaseModel):
    user_id: int
    template: str
    payload: dict[str, Any]


class Accepted(BaseModel):
    id: str


@app.websocket("/listen")
async def listen(socket: WebSocket) -> None:
    await socket.accept()
    listeners.add(socket)
    await socket.send_text("ready")
    try:
        while True:
            await socket.receive_text()
    except WebSocketDisconnect:
        listeners.discard(socket)


@app.post("/publish", status_code=202)
async def publish(request: Request) -> None:
    text = (await request.body()).decode()
    for socket in list(listeners):
        await socket.send_text(text)


@app.post("/push", status_code=202)
async def push(body: Push) -> Accepted:
    return Accepted(id=str(next(ids)))
