"""The push routes on many nodes: a request goes to whoever owns the shard that it is about.

Every shard has the same routes as a server that is alone, bound to the shard's own service.
What stands in the table of the port finds the shard (in the push's id, in the user's id, in the
body) and calls that service's handler, here or at its owner (``app.forwarding``). A plain push is the
exception: any node accepts it, also while nobody owns the shard. A batch is cut up by shard and
its results are joined; the list of dead letters is gathered from all.

A route that is not about one shard and not listed in ``_route`` is not offered on many nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import msgspec

from heartcast.api import push as push_routes
from heartcast.api import push_tail
from heartcast.api.body import decoder
from heartcast.api.idempotency import HEADER
from heartcast.api.problems import problem
from heartcast.api.push_asked import PlainRequest
from heartcast.api.push_dead_letters import limit_of
from heartcast.api.push_post import MAX_BATCH, PushAccepted
from heartcast.api.route import PUSH_WRITE, Answer, Call, Route
from heartcast.app.forwarding import Forwarding
from heartcast.app.gathered_broadcasts import GatheredBroadcasts
from heartcast.app.gathered_topics import GatheredTopics
from heartcast.app.gathering import Gathering, Handler, Key, copy_of
from heartcast.app.nodes_tail import NodesTail
from heartcast.app.shard_hosts import ShardHosts
from heartcast.core.clock import rfc3339
from heartcast.core.errors import Forbidden, HeartcastError, InvalidInput
from heartcast.core.hashing import shard_of
from heartcast.core.ids import shard_in
from heartcast.core.names import user_text
from heartcast.push.service import PushService
from heartcast.push.webhooks import webhook_note

_BATCH = ("POST", "/api/v1/pushes/batch")
_LETTERS = ("GET", "/api/v1/dead-letters")
_POSTS = (("POST", "/push"), ("POST", "/api/v1/pushes"))
_ERASE = ("DELETE", "/api/v1/users/{id}/pushes")
_HEALTH = (("GET", "/healthz"), ("GET", "/health"))


class _Batch(msgspec.Struct, forbid_unknown_fields=True):
    items: list[msgspec.Raw]


class _Results(msgspec.Struct):
    results: list[msgspec.Raw]


class _Addressed(msgspec.Struct):
    user_id: int | str


class _Letters(msgspec.Struct):
    items: list[msgspec.Raw]


class _Named(msgspec.Struct):
    id: str


class _Result(msgspec.Struct, omit_defaults=True):
    status: int
    push: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    duplicate: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    problem: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class _Part(NamedTuple):
    """The items of a batch that are in one shard."""

    indexes: list[int]
    items: list[bytes]


_encode = msgspec.json.Encoder().encode
_plain_in = msgspec.json.Decoder(PlainRequest).decode
_addressed_in = msgspec.json.Decoder(_Addressed).decode
_batch_in = decoder(_Batch)
_results_in = msgspec.json.Decoder(_Results).decode
_result_in = msgspec.json.Decoder(_Result).decode
_letters_in = msgspec.json.Decoder(_Letters).decode
_named_in = msgspec.json.Decoder(_Named).decode


class ShardRoutes:
    """The routes of all shards.

    Args:
        blank: A service without pushes: its routes say what there is, and its handlers what is
            wrong with a request that is about no shard.
    """

    def __init__(self, hosts: ShardHosts, blank: PushService) -> None:
        self._hosts = hosts
        self._forwarding = Forwarding(hosts)
        self._shards = hosts.parts.options.shards
        self._blank = {(route.method, route.path): route for route in push_routes.routes(blank)}
        self._degraded: Callable[[], list[str]] = list
        self.absent: list[tuple[str, str]] = []
        """Method and path of the routes that many nodes do not have."""
        gathering = Gathering(self._shards, self._run, self._everywhere)
        own: dict[Key, Handler] = {key: route.handler for key, route in self._blank.items()}  # type: ignore[misc]
        self.broadcasts = GatheredBroadcasts(
            gathering, hosts.directory, hosts.commons, own, options=hosts.parts.options,
            is_ours=lambda shard: hosts.find(shard) is not None,
        )  # fmt: skip
        self._of_all: dict[Key, Handler] = {
            **GatheredTopics(gathering).handlers(),
            **self.broadcasts.handlers(),
            ("GET", push_tail.PATH): NodesTail(hosts).get,
        }

    def routes(self, degraded: Callable[[], list[str]]) -> list[Route]:
        """As ``api.push.routes`` gives them."""
        self._degraded = degraded
        found = []
        for key, route in self._blank.items():
            handler = self._route(key)
            if handler is None:
                self.absent.append(key)
            else:
                found.append(replace(route, handler=handler))
        return found

    def _route(self, key: tuple[str, str]) -> Callable[[Call], Answer | None] | None:
        _, path = key
        if (handler := self._of_all.get(key)) is not None:
            return handler
        if key in _POSTS:
            return partial(self._post_one, key)
        if key == _BATCH:
            return self._post_batch
        if key == _LETTERS:
            return self._list_letters
        if key in _HEALTH:
            return self._health
        if path.startswith(("/api/v1/pushes/{id}", "/api/v1/dead-letters/{id}")):
            return partial(self._about_push, key)
        if key == _ERASE:
            return self._erase
        if path.startswith("/api/v1/users/{id}/"):
            return partial(self._about_user, key)
        if path.startswith(("/api/v1/templates", "/api/v1/webhooks")):
            # Of the commons, which every node knows.
            return self._blank[key].handler  # type: ignore[return-value]
        return None

    def _health(self, call: Call) -> Answer:
        hosts = self._hosts
        return push_routes.health(hosts.services(), self._degraded(), hosts.posts.health(), hosts.stalled())

    # ── one shard ────────────────────────────────────────────────────────────

    def _about_push(self, key: tuple[str, str], call: Call) -> Answer | None:
        shard = shard_in(call.params["id"])
        # An id that is none of ours is unknown in any shard.
        return self._run(shard if shard is not None and shard < self._shards else 0, key, call)

    def _about_user(self, key: tuple[str, str], call: Call) -> Answer | None:
        return self._run(shard_of(user_text(call.params["id"], ""), self._shards), key, call)

    def _erase(self, call: Call) -> Answer | None:
        user = user_text(call.params["id"], "")
        names = self._hosts.posts.book.of_user(user) if call.identity.may_act_for(user) else []
        if not names:
            return self._about_user(_ERASE, call)

        def taken(error: HeartcastError | None) -> None:
            answer = problem(error) if error is not None else self._about_user(_ERASE, call)
            if answer is not None:
                call.respond(answer)

        # First what the owner of the shard does not have: the request may be repeated.
        self._hosts.commons.write([webhook_note(name, None) for name in names], taken)
        return None

    def _post_one(self, key: tuple[str, str], call: Call) -> Answer | None:
        try:
            user = user_text(_addressed_in(call.body).user_id)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, InvalidInput):
            # It says what is wrong, and takes nothing.
            return self._blank[key].handler(call)  # type: ignore[return-value]
        shard = shard_of(user, self._shards)
        if self._hosts.find(shard) is None and call.header(HEADER) is None:
            try:
                request = _plain_in(call.body)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                pass  # it asks for more than to be sent: the owner's business
            else:
                self._accept(call, request)
                return None
        return self._run(shard, key, call)

    def _accept(self, call: Call, request: PlainRequest) -> None:
        if not call.identity.may(PUSH_WRITE):
            raise Forbidden(f"only the operator's own servers may push (scope {PUSH_WRITE})")
        acceptor = self._hosts.acceptor
        push, shard = acceptor.draft(request.user_id, request.template, request.payload)
        accepted = PushAccepted(
            push.id, request.user_id, request.template, "queued", shard, rfc3339(push.accepted_ms)
        )

        def added(error: HeartcastError | None) -> None:
            call.respond(Answer(202, _encode(accepted)) if error is None else problem(error))

        acceptor.accept(shard, push, added)

    def _run(self, shard: int, key: tuple[str, str], call: Call) -> Answer | None:
        """Answer a request about a shard, wherever that is."""
        host = self._hosts.find(shard)
        if host is not None:
            return host.handlers[key].handler(call)  # type: ignore[return-value]
        self._forwarding.send(shard, key, call)
        return None

    # ── several shards ───────────────────────────────────────────────────────

    def _everywhere(self, shards: list[int], ask: Callable[[int], Call], key: tuple[str, str],
                    done: Callable[[dict[int, Answer]], None]) -> None:  # fmt: skip
        """Ask several shards the same thing; ``done`` gets all answers."""
        answers: dict[int, Answer] = {}

        def answered(shard: int, answer: Answer) -> None:
            answers[shard] = answer
            if len(answers) == len(shards):
                done(answers)

        for shard in shards:
            call = ask(shard)
            call.respond = partial(answered, shard)
            self._forwarding.send(shard, key, call)

    def _list_letters(self, call: Call) -> Answer | None:
        values = call.query_values()
        if user := values.get("user_id", [""])[0]:
            return self._run(shard_of(user_text(user, ""), self._shards), _LETTERS, call)
        limit = limit_of(values.get("limit", ["50"])[0])

        def gathered(answers: dict[int, Answer]) -> None:
            if failed := next((answer for answer in answers.values() if answer.status != 200), None):
                call.respond(failed)
                return
            letters = [letter for answer in answers.values() for letter in _letters_in(answer.body).items]
            by_id = sorted((_named_in(letter).id, bytes(letter)) for letter in letters)
            more = by_id[limit - 1][0] if len(by_id) > limit else None
            body = {"items": [msgspec.Raw(letter) for _, letter in by_id[:limit]], "next_cursor": more}
            call.respond(Answer(200, _encode(body)))

        # One more than asked for, so that it shows whether there are more.
        cursor = b"&cursor=" + values["cursor"][0].encode() if "cursor" in values else b""
        query = b"limit=%d%b" % (min(limit + 1, 200), cursor)
        self._everywhere(list(range(self._shards)), lambda _: copy_of(call, query=query), _LETTERS, gathered)
        return None

    def _post_batch(self, call: Call) -> Answer | None:
        items = _batch_in(call.body).items
        if not call.identity.may(PUSH_WRITE) or not 1 <= len(items) <= MAX_BATCH:
            # It says what is wrong, and takes nothing.
            return self._blank[_BATCH].handler(call)  # type: ignore[return-value]
        parts: dict[int, _Part] = {}
        for index, item in enumerate(items):
            part = parts.setdefault(self._shard_of(item), _Part([], []))
            part.indexes.append(index)
            part.items.append(bytes(item))

        def joined(answers: dict[int, Answer]) -> None:
            results: list[msgspec.Raw | _Result] = [msgspec.Raw()] * len(items)
            for shard, answer in answers.items():
                if answer.status not in (200, 503):
                    # As a whole: a key that was used with another body, or is in use.
                    call.respond(answer)
                    return
                for index, result in zip(parts[shard].indexes, _results(parts[shard], answer), strict=True):
                    results[index] = result
            call.respond(Answer(200, _encode({"results": results})))

        self._everywhere(list(parts), lambda shard: copy_of(call, body=_body(parts[shard])), _BATCH, joined)
        return None

    def _shard_of(self, item: msgspec.Raw) -> int:
        try:
            return shard_of(user_text(_addressed_in(item).user_id), self._shards)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, InvalidInput):
            return 0  # any shard can say what is wrong with it


def _body(part: _Part) -> bytes:
    return b'{"items":[%b]}' % b",".join(part.items)


def _results(part: _Part, answer: Answer) -> list[msgspec.Raw | _Result]:
    """What became of the items of a part, with the places that they have in the whole."""
    if answer.status != 200:
        refusal = msgspec.json.decode(answer.body)
        return [_Result(answer.status, problem=refusal) for _ in part.indexes]
    results: list[msgspec.Raw | _Result] = []
    for at, (index, raw) in enumerate(zip(part.indexes, _results_in(answer.body).results, strict=True)):
        result = _result_in(raw)
        if result.problem is msgspec.UNSET:
            results.append(raw)
            continue
        assert isinstance(result.problem, dict)
        for error in result.problem.get("errors", []):
            error["pointer"] = error["pointer"].replace(f"/items/{at}", f"/items/{index}", 1)
        results.append(result)
    return results
