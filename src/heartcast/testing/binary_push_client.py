"""A ``PushClient`` that speaks ``heartcast.v1``."""

from __future__ import annotations

import asyncio

import websockets
from websockets.typing import Subprotocol

from heartcast.testing.push_client import PushClient
from heartcast.wire import v1


class BinaryPushClient(PushClient):
    """Listens to one user's inbox with the binary sub-protocol; otherwise as its base."""

    async def _listen(self, url: str) -> None:
        async with websockets.connect(
            url,
            subprotocols=[Subprotocol("heartcast.v1")],
            open_timeout=2,
            close_timeout=0.2,
            ping_timeout=None,
        ) as socket:
            resume = None if self._position is None else v1.Position(*self._position)
            await socket.send(v1.write(v1.ClientFrame(1, hello=v1.Hello(token=self._token))))
            subscribe = v1.Subscribe(f"inbox:#{self.user}", resume=resume)
            await socket.send(v1.write(v1.ClientFrame(2, subscribe=subscribe)))
            while True:
                async with asyncio.timeout(self.patience_s):
                    message = await socket.recv()
                assert isinstance(message, bytes)
                await self._take_frame(socket, v1.read_server(message))

    async def _take_frame(self, socket: websockets.ClientConnection, frame: v1.ServerFrame) -> None:
        reply = frame.reply
        if frame.left is not None or (reply is not None and reply.error is not None):
            raise ConnectionError("refused")
        if frame.ping is not None:
            await socket.send(v1.write(v1.ClientFrame(pong=v1.Pong())))
        messages = frame.batch.messages if frame.batch is not None else []
        if reply is not None and (subscribed := reply.subscribed) is not None:
            messages = subscribed.messages
            place = subscribed.position or v1.Position()
            self._stand_at(place.offset, place.epoch)
        ids = [self._note(sent.id, sent.offset, sent.data) for sent in messages]
        if ids and self._acknowledges:
            await socket.send(v1.write(v1.ClientFrame(9, ack=v1.Ack(ids=ids))))
