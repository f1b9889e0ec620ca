"""REST of topics: who subscribes to what.

A topic is there as long as somebody subscribes to it. Only the operator's own servers
change subscriptions: they know which topics a user may see.
"""

from __future__ import annotations

from functools import partial

import msgspec

from heartcast.api.body import decoder
from heartcast.api.push_dead_letters import limit_of
from heartcast.api.push_once import Ticket, Tickets, refuse
from heartcast.api.route import PUSH_WRITE, Answer, Call, Parameter, Route
from heartcast.core.errors import Forbidden, InvalidInput, StoreUnavailable
from heartcast.core.names import check_id, user_text
from heartcast.push.journal import Change
from heartcast.push.service import PushService
from heartcast.push.topics import Changed

_PATH = "/api/v1/topics"
_ONE = f"{_PATH}/{{topic}}"
MAX_CHANGES = 1_000


class Topic(msgspec.Struct, frozen=True):
    """A topic and how many subscribe to it."""

    topic: str
    subscribers: int


class TopicList(msgspec.Struct, frozen=True):
    """A page of topics, by name."""

    items: list[Topic]
    next_cursor: str | None
    """Give it as ``cursor`` for the next page; null: this is the last one."""


class SubscriberList(msgspec.Struct, frozen=True):
    """A page of subscribers, by user id."""

    items: list[str]
    next_cursor: str | None
    """Give it as ``cursor`` for the next page; null: this is the last one."""


class SubscriberChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Up to 1,000 users altogether; all of it happens or nothing."""

    add: list[int | str] = []
    remove: list[int | str] = []


class SubscribersChanged(msgspec.Struct, frozen=True):
    """What is different now."""

    topic: str
    subscribers: int
    """How many there are now."""
    added: int
    removed: int


class Subscription(msgspec.Struct, frozen=True):
    """One user's subscription."""

    topic: str
    user_id: str


_decode_change = decoder(SubscriberChange)
_encode = msgspec.json.Encoder().encode
_PAGES = (
    Parameter(name="cursor", summary="Where the page before ended."),
    Parameter(name="limit", summary="1 to 200; 50 when left out.", type=int),
)


def routes(service: PushService, tickets: Tickets) -> list[Route]:
    """The routes of topics."""
    api = _TopicsApi(service)
    subscriber = f"{_ONE}/subscribers/{{user}}"
    return [
        Route(
            method="GET",
            path=_PATH,
            handler=api.page,
            summary="All topics that have subscribers.",
            tag="topics",
            answers={200: TopicList},
            parameters=_PAGES,
        ),
        Route(
            method="GET",
            path=_ONE,
            handler=api.get,
            summary="How many subscribe to a topic.",
            tag="topics",
            answers={200: Topic},
        ),
        Route(
            method="GET",
            path=f"{_ONE}/subscribers",
            handler=api.subscribers,
            summary="Who subscribes to a topic, by user id.",
            tag="topics",
            answers={200: SubscriberList},
            parameters=_PAGES,
        ),
        Route(
            method="POST",
            path=f"{_ONE}/subscribers",
            handler=tickets.guard(f"POST {_ONE}/subscribers", api.change),
            summary="Let up to 1,000 users subscribe or unsubscribe at once.",
            tag="topics",
            body=SubscriberChange,
            answers={200: SubscribersChanged},
        ),
        Route(
            method="PUT",
            path=subscriber,
            handler=tickets.guard(f"PUT {subscriber}", api.put),
            summary="Let a user subscribe; 200 when that was so already.",
            tag="topics",
            answers={201: Subscription, 200: Subscription},
        ),
        Route(
            method="DELETE",
            path=subscriber,
            handler=tickets.guard(f"DELETE {subscriber}", api.delete),
            summary="End a subscription; repeating it changes nothing.",
            tag="topics",
            answers={204: None},
        ),
    ]


class _TopicsApi:
    def __init__(self, service: PushService) -> None:
        self._service = service
        self._topics = service.topics

    def page(self, call: Call) -> Answer:
        _must_push(call)
        limit, cursor = page_of(call)
        names = self._topics.page(cursor, limit + 1)
        items = [Topic(name, len(self._topics.subscribers(name))) for name in names[:limit]]
        return Answer(200, _encode(TopicList(items, names[limit - 1] if len(names) > limit else None)))

    def get(self, call: Call) -> Answer:
        topic = _topic(call)
        return Answer(200, _encode(Topic(topic, len(self._topics.subscribers(topic)))))

    def subscribers(self, call: Call) -> Answer:
        topic = _topic(call)
        limit, cursor = page_of(call)
        users = self._topics.subscribers(topic).after(cursor, limit + 1)
        more = users[limit - 1] if len(users) > limit else None
        return Answer(200, _encode(SubscriberList(users[:limit], more)))

    def change(self, call: Call, ticket: Ticket) -> Answer | None:
        topic, add, remove = change_of(call)
        changed = self._topics.change(topic, add, remove)
        now = len(self._topics.subscribers(topic))
        body = SubscribersChanged(topic, now, len(changed.added), len(changed.removed))
        self._write(call, ticket, topic, changed, Answer(200, _encode(body)))
        return None

    def put(self, call: Call, ticket: Ticket) -> Answer | None:
        topic, user = _topic(call), user_text(call.params["user"], "")
        changed = self._topics.change(topic, [user], [])
        answer = Answer(201 if changed.added else 200, _encode(Subscription(topic, user)))
        self._write(call, ticket, topic, changed, answer)
        return None

    def delete(self, call: Call, ticket: Ticket) -> Answer | None:
        topic, user = _topic(call), user_text(call.params["user"], "")
        self._write(call, ticket, topic, self._topics.change(topic, [], [user]), Answer(204))
        return None

    def _write(self, call: Call, ticket: Ticket, topic: str, changed: Changed, answer: Answer) -> None:
        # Also when nothing is different: the answer that it is so may wait for the disk.
        change = Change(notes=[*changed.notes, *ticket.notes(answer)])
        self._service.journal.write(change, partial(self._written, call, ticket, topic, changed, answer))

    def _written(
        self,
        call: Call,
        ticket: Ticket,
        topic: str,
        changed: Changed,
        answer: Answer,
        error: StoreUnavailable | None,
    ) -> None:
        if error is not None:
            self._topics.undo(topic, changed)
            refuse(call, ticket, error)
            return
        ticket.keep(answer)
        call.respond(answer)


def change_of(call: Call) -> tuple[str, list[str], list[str]]:
    """The topic, and who is to subscribe to it and who is not.

    Raises:
        Forbidden: it is not for who asks.
        InvalidInput: it names nobody, too many, or somebody on both sides.
    """
    topic = _topic(call)
    asked = _decode_change(call.body)
    if not 1 <= len(asked.add) + len(asked.remove) <= MAX_CHANGES:
        raise InvalidInput(f"must name 1 to {MAX_CHANGES} users altogether")
    add = [user_text(user, f"/add/{index}") for index, user in enumerate(asked.add)]
    remove = [user_text(user, f"/remove/{index}") for index, user in enumerate(asked.remove)]
    if both := set(add) & set(remove):
        raise InvalidInput(
            f"{min(both)[:50]!r} is in both lists", pointer="/remove", code="conflicting_options"
        )
    return topic, add, remove


def page_of(call: Call) -> tuple[int, str]:
    """How many, and after which.

    Raises:
        InvalidInput: the limit is none.
    """
    values = call.query_values()
    return limit_of(values.get("limit", ["50"])[0]), values.get("cursor", [""])[0]


def _topic(call: Call) -> str:
    _must_push(call)
    return check_id(call.params["topic"])


def _must_push(call: Call) -> None:
    if not call.identity.may(PUSH_WRITE):
        raise Forbidden(f"only the operator's own servers may do this (scope {PUSH_WRITE})")
