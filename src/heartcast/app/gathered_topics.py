"""Topics on many nodes: each shard knows which of its users subscribe; here they are one topic.

What is asked about a topic is asked of the owners of all shards and joined. A change goes to
the shards of the users that it names: within each of them it happens whole or not at all, and
where one could not take its part the request fails and may be repeated as it is, since what is so
already stays.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec

from heartcast.api.push_topics import (
    SubscriberChange,
    SubscriberList,
    SubscribersChanged,
    Topic,
    TopicList,
    change_of,
    page_of,
)
from heartcast.api.route import Answer, Call
from heartcast.app.gathering import Gathering, Handler, Key, failed_of
from heartcast.core.hashing import shard_of

_PATH = "/api/v1/topics"
_LIST: Key = ("GET", _PATH)
_ONE: Key = ("GET", f"{_PATH}/{{topic}}")
_SUBSCRIBERS: Key = ("GET", f"{_PATH}/{{topic}}/subscribers")
_CHANGE: Key = ("POST", f"{_PATH}/{{topic}}/subscribers")
_SINGLE = f"{_PATH}/{{topic}}/subscribers/{{user}}"

_encode = msgspec.json.Encoder().encode
_list_in = msgspec.json.Decoder(TopicList).decode
_one_in = msgspec.json.Decoder(Topic).decode
_subscribers_in = msgspec.json.Decoder(SubscriberList).decode
_changed_in = msgspec.json.Decoder(SubscribersChanged).decode


class GatheredTopics:
    """Handlers of all routes of topics."""

    def __init__(self, gathering: Gathering) -> None:
        self._gathering = gathering
        self._shards = gathering.shards

    def handlers(self) -> dict[Key, Handler]:
        """By method and path."""
        return {
            _LIST: self.page,
            _ONE: self.get,
            _SUBSCRIBERS: self.subscribers,
            _CHANGE: self.change,
            ("PUT", _SINGLE): partial(self._gathering.of_user, ("PUT", _SINGLE), "user"),
            ("DELETE", _SINGLE): partial(self._gathering.of_user, ("DELETE", _SINGLE), "user"),
        }

    def page(self, call: Call) -> None:
        limit, _ = page_of(call)

        def joined(answers: list[Answer]) -> Answer:
            pages = [_list_in(answer.body) for answer in answers]
            counts: dict[str, int] = {}
            for topic in (topic for page in pages for topic in page.items):
                counts[topic.topic] = counts.get(topic.topic, 0) + topic.subscribers
            # A name among the first ones is among the first ones of every shard that has it.
            names = sorted(counts)
            is_all = len(names) <= limit and not any(page.next_cursor for page in pages)
            items = [Topic(name, counts[name]) for name in names[:limit]]
            return Answer(200, _encode(TopicList(items, None if is_all else names[limit - 1])))

        self._gathering.ask_all(call, _LIST, joined)

    def get(self, call: Call) -> None:
        self._count(call, lambda topic: Answer(200, _encode(topic)))

    def subscribers(self, call: Call) -> None:
        limit, _ = page_of(call)

        def joined(answers: list[Answer]) -> Answer:
            pages = [_subscribers_in(answer.body) for answer in answers]
            users = sorted(user for page in pages for user in page.items)
            is_all = len(users) <= limit and not any(page.next_cursor for page in pages)
            return Answer(200, _encode(SubscriberList(users[:limit], None if is_all else users[limit - 1])))

        self._gathering.ask_all(call, _SUBSCRIBERS, joined)

    def change(self, call: Call) -> None:
        topic, add, remove = change_of(call)
        parts: dict[int, SubscriberChange] = {}
        for user in add:
            self._part(parts, user).add.append(user)
        for user in remove:
            self._part(parts, user).remove.append(user)

        def changed(answers: dict[int, Answer]) -> None:
            if failed := failed_of(answers.values()):
                call.respond(failed)
                return
            done = [_changed_in(answer.body) for answer in answers.values()]
            added, removed = sum(one.added for one in done), sum(one.removed for one in done)
            self._count(
                call,
                lambda now: Answer(200, _encode(SubscribersChanged(topic, now.subscribers, added, removed))),
            )

        bodies = {shard: _encode(part) for shard, part in parts.items()}
        self._gathering.ask(call, _CHANGE, bodies, changed)

    def _part(self, parts: dict[int, SubscriberChange], user: str) -> SubscriberChange:
        return parts.setdefault(shard_of(user, self._shards), SubscriberChange([], []))

    def _count(self, call: Call, answer: Callable[[Topic], Answer]) -> None:
        def joined(answers: list[Answer]) -> Answer:
            topics = [_one_in(one.body) for one in answers]
            return answer(Topic(call.params["topic"], sum(topic.subscribers for topic in topics)))

        self._gathering.ask_all(call, _ONE, joined)
