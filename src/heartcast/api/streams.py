"""REST of streams: what is published to a topic, for consumers outside of this program.

    POST   /publish                                publish; also POST /api/v1/streams/{topic}
    GET    /api/v1/streams/{topic}?group=&wait=    what a group has not got, waiting for it
    POST   /api/v1/streams/{topic}/ack             a group has done these
    GET    /api/v1/streams/{topic}/groups          where each group stands
    DELETE /api/v1/streams/{topic}/groups/{group}  forget one

Each group gets every entry at least once; what a reader does not acknowledge is given to
another after ``streams.idle_s``, with ``deliveries`` above 1. Consumers tell repetitions by
the entry's ``id``.
"""

from __future__ import annotations

from typing import Any

import msgspec

from heartcast.api.body import decoder
from heartcast.api.idempotency import key_of
from heartcast.api.route import PUSH_WRITE, Answer, Call, Parameter, Route
from heartcast.core.errors import BodyTooLarge, Forbidden, InvalidInput, NotFound
from heartcast.core.names import check_id
from heartcast.resilience.shedding import Priority
from heartcast.streams.streams import Streams

_PATH = "/api/v1/streams/{topic}"
MAX_COUNT = 1_000


class Publication(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to publish where."""

    topic: str
    data: Any
    """Any JSON."""


class TopicPublication(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to publish to the topic in the path."""

    data: Any


class Published(msgspec.Struct, frozen=True):
    """It is kept, and every group will get it."""

    id: str
    """Ids of a topic grow: ``<milliseconds>-<n>``."""
    topic: str


class StreamEntry(msgspec.Struct, frozen=True):
    """Something that was published."""

    id: str
    data: msgspec.Raw
    deliveries: int
    """More than 1: this group was given it before."""


class StreamEntries(msgspec.Struct, frozen=True):
    """What a group was given, in order; acknowledge it when it is done."""

    items: list[StreamEntry]


class StreamAck(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a group has done."""

    group: str
    ids: list[str]
    """1 to 1,000 ids."""


class StreamAcked(msgspec.Struct, frozen=True):
    """How many were waiting for this acknowledgement; others were acknowledged before."""

    acknowledged: int


class StreamGroup(msgspec.Struct, frozen=True):
    """Where a group stands."""

    group: str
    pending: int
    """Given and not acknowledged."""
    lag: int | None
    """Never given; null: the store cannot tell."""


class StreamGroups(msgspec.Struct, frozen=True):
    """A stream and its groups."""

    topic: str
    entries: int
    """Kept now."""
    groups: list[StreamGroup]


_decode_publication = decoder(Publication)
_decode_data = decoder(TopicPublication)
_decode_ack = decoder(StreamAck)
_encode = msgspec.json.Encoder().encode


def routes(streams: Streams) -> list[Route]:
    """The routes of streams."""
    api = _StreamsApi(streams)
    return [
        Route(
            method="POST",
            path="/publish",
            handler=api.publish,
            summary="Publish to a topic; every group of consumers gets it at least once.",
            tag="streams",
            body=Publication,
            answers={202: Published},
        ),
        Route(
            method="POST",
            path=_PATH,
            handler=api.publish_to,
            summary="Publish to the topic in the path.",
            tag="streams",
            body=TopicPublication,
            answers={202: Published},
        ),
        Route(
            method="GET",
            path=_PATH,
            handler=api.read,
            summary="What a group has not got yet; waits for it when there is none.",
            tag="streams",
            answers={200: StreamEntries},
            is_patient=True,
            parameters=(
                Parameter(name="group", summary="The kind of consumer that reads.", is_required=True),
                Parameter(name="count", summary=f"1 to {MAX_COUNT}; 10 when left out.", type=int),
                Parameter(name="wait", summary="Seconds to wait for an entry; 0 when left out.", type=float),
            ),
        ),
        Route(
            method="POST",
            path=f"{_PATH}/ack",
            handler=api.ack,
            summary="A group has done these entries; they are not given to it again.",
            tag="streams",
            body=StreamAck,
            answers={200: StreamAcked},
            priority=Priority.CRITICAL,
        ),
        Route(
            method="GET",
            path=f"{_PATH}/groups",
            handler=api.groups,
            summary="How much a stream keeps, and where each group stands.",
            tag="streams",
            answers={200: StreamGroups},
        ),
        Route(
            method="DELETE",
            path=f"{_PATH}/groups/{{group}}",
            handler=api.forget,
            summary="Forget a group, so that it holds nothing back.",
            tag="streams",
            answers={204: None},
        ),
    ]


class _StreamsApi:
    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    async def publish(self, call: Call) -> Answer:
        _must_push(call)
        request = _decode_publication(call.body)
        return await self._publish(call, check_id(request.topic, "/topic"), request.data)

    async def publish_to(self, call: Call) -> Answer:
        return await self._publish(call, _topic(call), _decode_data(call.body).data)

    async def _publish(self, call: Call, topic: str, value: Any) -> Answer:
        data, most = _encode(value), self._streams.options.max_data_bytes
        if len(data) > most:
            raise BodyTooLarge(
                f"must be at most {most} bytes as JSON", pointer="/data", code="data_too_large"
            )
        id_ = await self._streams.publish(topic, data, key_of(call) or "")
        return Answer(202, _encode(Published(id_, topic)))

    async def read(self, call: Call) -> Answer:
        topic, values = _topic(call), call.query_values()
        if "group" not in values:
            raise InvalidInput("name the group that reads: ?group=billing", code="group_missing")
        group = check_id(values["group"][0])
        count = _count(values.get("count", ["10"])[0])
        wait_s = self._wait(values.get("wait", ["0"])[0])
        entries = await self._streams.read(topic, group, count, wait_s)
        items = [StreamEntry(entry.id, msgspec.Raw(entry.data), entry.deliveries) for entry in entries]
        return Answer(200, _encode(StreamEntries(items)), ((b"cache-control", b"no-store"),))

    async def ack(self, call: Call) -> Answer:
        topic, asked = _topic(call), _decode_ack(call.body)
        if not 1 <= len(asked.ids) <= MAX_COUNT:
            raise InvalidInput(f"must hold 1 to {MAX_COUNT} ids, got {len(asked.ids)}", pointer="/ids")
        group = check_id(asked.group, "/group")
        return Answer(200, _encode(StreamAcked(await self._streams.ack(topic, group, asked.ids))))

    async def groups(self, call: Call) -> Answer:
        topic = _topic(call)
        entries, groups = await self._streams.look(topic)
        shown = [StreamGroup(group.name, group.pending, group.lag) for group in groups]
        return Answer(200, _encode(StreamGroups(topic, entries, shown)))

    async def forget(self, call: Call) -> Answer:
        topic = _topic(call)
        if not await self._streams.forget(topic, check_id(call.params["group"])):
            raise NotFound("this stream has no such group", code="no_group")
        return Answer(204)

    def _wait(self, text: str) -> float:
        most = self._streams.options.max_wait_s
        try:
            wait_s = float(text)
        except ValueError:
            wait_s = -1.0
        if not 0 <= wait_s <= most:
            raise InvalidInput(f"wait must be a number of seconds from 0 to {most:g}, got {text[:20]!r}")
        return wait_s


def _count(text: str) -> int:
    if not text.isdecimal() or len(text) > 9 or not 1 <= int(text) <= MAX_COUNT:
        raise InvalidInput(f"count must be a number from 1 to {MAX_COUNT}, got {text[:20]!r}")
    return int(text)


def _topic(call: Call) -> str:
    _must_push(call)
    return check_id(call.params["topic"])


def _must_push(call: Call) -> None:
    if not call.identity.may(PUSH_WRITE):
        raise Forbidden(f"only the operator's own servers may use streams (scope {PUSH_WRITE})")
