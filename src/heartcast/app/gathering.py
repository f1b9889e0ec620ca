"""Asking the owners of several shards, and making one answer of theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from heartcast.api.route import Answer, Call
from heartcast.core.hashing import shard_of
from heartcast.core.names import user_text

Key = tuple[str, str]
"""Method and path of a route."""
Handler = Callable[[Call], Answer | None]


class Gathering(NamedTuple):
    """How questions reach shards."""

    shards: int
    run: Callable[[int, Key, Call], Answer | None]
    """``run(shard, key, call)``: let the owner of a shard answer a call."""
    everywhere: Callable[[list[int], Callable[[int], Call], Key, Callable[[dict[int, Answer]], None]], None]
    """``everywhere(shards, ask, key, done)``: ask several; ``done`` gets all answers."""

    def of_user(self, key: Key, part: str, call: Call) -> Answer | None:
        """Let the owner of a user's shard answer; ``part`` of the path names the user."""
        return self.run(shard_of(user_text(call.params[part], ""), self.shards), key, call)

    def ask(
        self, call: Call, key: Key, bodies: dict[int, bytes], done: Callable[[dict[int, Answer]], None]
    ) -> None:
        """Ask these shards, each with a body of its own."""
        self.everywhere(list(bodies), lambda shard: copy_of(call, body=bodies[shard]), key, done)

    def ask_all(self, call: Call, key: Key, joined: Callable[[list[Answer]], Answer]) -> None:
        """Ask all shards and answer the call with what ``joined`` makes of it, or with the first refusal."""

        def asked(answers: dict[int, Answer]) -> None:
            found = list(answers.values())
            call.respond(failed_of(found) or joined(found))

        self.everywhere(list(range(self.shards)), lambda _: copy_of(call, query=call.query), key, asked)


def failed_of(answers: Iterable[Answer]) -> Answer | None:
    """The first answer that is no success."""
    return next((answer for answer in answers if answer.status >= 300), None)


def copy_of(call: Call, *, body: bytes = b"", query: bytes = b"") -> Call:
    """The same call with another body and query; it still answers where the first one does."""
    return Call(
        body=body, query=query, headers=call.headers, params=call.params, peer=call.peer,
        identity=call.identity, respond=call.respond,
    )  # fmt: skip
