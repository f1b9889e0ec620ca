"""A client of pushes that never gives up: it listens at some node, acknowledges, writes down, comes back.

It speaks the client protocol bare, without an SDK: what it wrote down is what came over the wire.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable

import websockets


class PushClient:
    """Listens to one user's inbox.

    Args:
        urls: WebSocket addresses of nodes; after a failure the next one is tried.
        token: The user's.
        acknowledges: Whether it does, or only listens.
    """

    def __init__(
        self, urls: Callable[[], list[str]], user: str, token: str, *, acknowledges: bool = True
    ) -> None:
        self.user = user
        self.got: list[str] = []
        """Ids in the order in which they first came."""
        self.offsets: list[int] = []
        """Offsets of first deliveries, in the order in which they came."""
        self.deliveries: dict[str, int] = {}
        """How often each came."""
        self.titles: dict[str, str] = {}
        """What each says, by id."""
        self.places: dict[str, int] = {}
        """Offset of each that came as a first delivery, by id."""
        self.patience_s = 6.0
        """Without a word for longer than the server's pings the node is dead or paused."""
        self.subscribed = asyncio.Event()
        self.subscriptions = 0
        self._urls = urls
        self._token = token
        self._acknowledges = acknowledges
        self._position: tuple[int, str] | None = None
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    async def __aenter__(self) -> PushClient:
        self._task = asyncio.get_running_loop().create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def has(self, wanted: set[str], timeout_s: float) -> None:
        """Wait until all of these have come.

        Raises:
            TimeoutError: some have not; the message says how many.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while not wanted <= self.deliveries.keys():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            missing = sorted(wanted - self.deliveries.keys())
            raise TimeoutError(f"{self.user} lacks {len(missing)} of {len(wanted)}: {missing[:3]}") from None

    async def _run(self) -> None:
        attempt = 0
        while True:
            urls = self._urls()
            with contextlib.suppress(OSError, websockets.WebSocketException, TimeoutError, ConnectionError):
                await self._listen(urls[attempt % len(urls)])
            self.subscribed.clear()
            attempt += 1
            await asyncio.sleep(0.1)

    async def _listen(self, url: str) -> None:
        async with websockets.connect(url, open_timeout=2, close_timeout=0.2, ping_timeout=None) as socket:
            await socket.send(json.dumps({"id": 1, "connect": {"token": self._token}}))
            subscribe: dict[str, object] = {"channel": f"inbox:#{self.user}"}
            if self._position is not None:
                offset, epoch = self._position
                subscribe |= {"recover": True, "offset": offset, "epoch": epoch}
            await socket.send(json.dumps({"id": 2, "subscribe": subscribe}))
            while True:
                async with asyncio.timeout(self.patience_s):
                    text = str(await socket.recv())
                for line in text.split("\n"):
                    if line == "{}":
                        await socket.send("{}")
                    else:
                        await self._take(socket, json.loads(line))

    async def _take(self, socket: websockets.ClientConnection, reply: dict[str, dict[str, object]]) -> None:
        if "error" in reply or "disconnect" in reply.get("push", {}):
            raise ConnectionError("refused")
        publications: list[dict[str, object]] = []
        if "subscribe" in reply:
            answer = reply["subscribe"]
            publications = answer.get("publications", [])  # type: ignore[assignment]
            self._stand_at(int(answer.get("offset", 0)), str(answer.get("epoch", "")))  # type: ignore[call-overload]
        elif "pub" in reply.get("push", {}):
            publications = [reply["push"]["pub"]]  # type: ignore[list-item]
        ids = [
            self._note(
                str(publication["tags"]["id"]),  # type: ignore[index]
                int(publication.get("offset", 0)),  # type: ignore[call-overload]
                json.dumps(publication["data"]).encode(),
            )
            for publication in publications
        ]
        if ids and self._acknowledges:
            await socket.send(json.dumps({"send": {"data": {"ack": ids}}}))

    def _stand_at(self, offset: int, epoch: str) -> None:
        """A subscription was answered: the place from which it goes on."""
        self._position = (offset, epoch)
        self.subscriptions += 1
        self.subscribed.set()

    def _note(self, push_id: str, offset: int, data: bytes) -> str:
        if push_id not in self.deliveries:
            self.got.append(push_id)
            self.titles[push_id] = json.loads(data)["title"]
        self.deliveries[push_id] = self.deliveries.get(push_id, 0) + 1
        if offset:
            self.offsets.append(offset)
            self.places[push_id] = offset
            if self._position is not None:
                self._position = (max(offset, self._position[0]), self._position[1])
        self._news.set()
        return push_id
