"""A sender of pushes outside of the product: it posts to all nodes in turn and writes down what it was told.

with PushSender(addresses, ["ann", "bob"], is_keyed=True) as sender:
    ...                       # kill, pause, cut
sender.accepted["ann"]        # ids answered with 202, in that order
"""

from __future__ import annotations

import http.client
import json
import math
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

PATIENCE_S = 4.0
"""Longest wait for an answer: then it is lost, and what became of the push is not known."""
LAST_WORDS_S = 20.0
"""At the end, how long a request with a key is still repeated."""
_RESEND_S = 0.05
_MAY_BE_REPEATED = frozenset((0, 409, 503))
"""No answer; the first one with this key is under way; not now."""
_NEVER_DONE = frozenset(("shard_moving", "shard_full", "stopping", "not_ready", "shed"))
"""Codes of refusals that say that nothing was taken."""


class PushSender(threading.Thread):
    """Posts one push after another until the end of its ``with`` block.

    A push that was answered with 202 is *accepted*. One whose answer was lost, or that was refused
    by a store that may have taken it, is *uncertain*: it may arrive, once. One that was refused
    otherwise is *refused* and must never arrive. With keys there is only the first kind: each
    request is repeated with its key, at the next node, until it is answered.

    Args:
        addresses: Host and port of each node, dead ones too.
        users: Served in turn; nobody else may push to them, so that their order is known.
        is_keyed: Whether requests carry an Idempotency-Key.
        pause_s: Between two pushes.
    """

    def __init__(
        self,
        addresses: Callable[[], list[tuple[str, int]]],
        users: list[str],
        *,
        is_keyed: bool = False,
        pause_s: float = 0.02,
    ) -> None:
        super().__init__(name=f"sender of {users[0]}")
        self.users = users
        self.accepted: dict[str, list[str]] = {user: [] for user in users}
        """Ids by user, in the order in which they were accepted."""
        self.titles: dict[str, str] = {}
        """Of each accepted push, by id; no two pushes have the same."""
        self.uncertain: set[str] = set()
        """Titles."""
        self.refused: set[str] = set()
        """Titles."""
        self.is_store_hurt = False
        """Set it while Redis is cut off: what became of a write is not known then to the nodes either."""
        self.doubtful: set[str] = set()
        """Titles of requests that were repeated meanwhile."""
        self.repeats = 0
        """Requests that were sent again with their key."""
        self._addresses = addresses
        self._is_keyed = is_keyed
        self._pause_s = pause_s
        self._ended = threading.Event()
        self._turn = 0
        self._connections: dict[tuple[str, int], http.client.HTTPConnection] = {}

    @property
    def count(self) -> int:
        """Pushes accepted so far."""
        return len(self.titles)

    def __enter__(self) -> PushSender:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        self.join()

    def end(self) -> None:
        """Send no more; ``join`` waits for the last answer."""
        self._ended.set()

    def run(self) -> None:
        number = 0
        while not self._ended.is_set():
            user = self.users[number % len(self.users)]
            self._push(user, f"{user}/{number}")
            number += 1
            self._ended.wait(self._pause_s)
        for connection in self._connections.values():
            connection.close()

    def _push(self, user: str, title: str) -> None:
        until_s = math.inf
        while True:
            status, body = self._post(user, title)
            if status == 202:
                self.titles[body["id"]] = title
                self.accepted[user].append(body["id"])
                return
            if status not in _MAY_BE_REPEATED:
                raise RuntimeError(f"{title} was answered with {status}: {body}")
            if self._ended.is_set():
                until_s = min(until_s, time.monotonic() + LAST_WORDS_S)
            if not self._is_keyed or time.monotonic() > until_s:
                (self.refused if body.get("code") in _NEVER_DONE else self.uncertain).add(title)
                return
            self.repeats += 1
            if self.is_store_hurt:
                self.doubtful.add(title)
            time.sleep(_RESEND_S)

    def _post(self, user: str, title: str) -> tuple[int, dict[str, Any]]:
        """Status and answer of the next node; 0 when there was none."""
        addresses = self._addresses()
        self._turn += 1
        address = addresses[self._turn % len(addresses)]
        connection = self._connections.get(address)
        if connection is None:
            connection = http.client.HTTPConnection(*address, timeout=PATIENCE_S)
            self._connections[address] = connection
        headers = {"content-type": "application/json"}
        if self._is_keyed:
            headers["idempotency-key"] = title
        body = json.dumps({"user_id": user, "template": "news_v2", "payload": {"title": title}})
        try:
            connection.request("POST", "/push", body, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, http.client.HTTPException):
            connection.close()
            return 0, {}
