"""Events posted to real receivers that behave badly."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from heartcast.api import heart_events
from heartcast.backends.fetch import Bounds
from heartcast.backends.post import Poster
from heartcast.backends.webhook import key_of, new_secret, verify
from heartcast.core.bus import Bus
from heartcast.core.clock import SystemClock
from heartcast.core.errors import Forbidden, Gone
from heartcast.hearts.following import FILE_NAME, EffectsFile
from heartcast.hearts.model import HeartChanged, HeartEvent, HeartKey, Outcome
from heartcast.hearts.options import EventWebhook, EventWebhookOptions, OutboxOptions
from heartcast.hearts.outbox import Feed
from heartcast.hearts.service import HeartService
from heartcast.hearts.store.awaiting import result_of
from heartcast.hearts.store.sqlite import SqliteHeartStore
from heartcast.hearts.webhooks import Webhook
from heartcast.testing.contracts.heart_store import keys_of
from heartcast.testing.providers import Answer, Receiver, gone, healthy, storm, throttling

OLD, NEW = new_secret(), new_secret()
QUICK = {"retry_first_s": 0.001, "retry_max_s": 0.005}


def rendered(events: list[HeartEvent], epoch: str) -> object:
    return [heart_events.shown(event, epoch) for event in events]


class Sender:
    """A server's parts: a store, its feed, one webhook."""

    def __init__(self, folder: Path, url: str, secrets: list[str], **options: Any) -> None:
        clock = SystemClock()
        self.store = SqliteHeartStore(folder / "hearts.db", clock=clock, keeps_events=True)
        bus: Bus[HeartChanged] = Bus(asyncio.get_running_loop().call_soon)
        self.service = HeartService(self.store, clock, bus)
        self.feed = Feed(self.store, OutboxOptions(), clock)
        bus.follow(self.feed)
        self.file = EffectsFile(folder / FILE_NAME)
        self.poster = Poster(Bounds(5, 1_000, allow_private=True))
        self.webhook = Webhook(
            "crm", EventWebhook(url=url, secrets=secrets),
            EventWebhookOptions(**QUICK, allow_private=True, max_events=10, **options),
            feed=self.feed, file=self.file, post=self.poster.post, render=rendered, clock=clock,
        )  # fmt: skip
        self.task = asyncio.ensure_future(self.webhook.run())

    async def add(self, keys: list[HeartKey]) -> None:
        outcomes: list[Outcome] = await result_of(lambda done: self.service.add(keys, done))
        assert all(outcome.changed for outcome in outcomes)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not holds():
                await asyncio.sleep(0.005)

    async def begun(self) -> None:
        await self.until(lambda: self.webhook.cursor != "")

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])
        self.poster.close()
        await self.store.close()
        await self.file.close()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


@pytest.fixture
async def start(tmp_path: Path, receiver: Receiver) -> AsyncIterator[Callable[..., Sender]]:
    senders: list[Sender] = []

    def start(secrets: list[str] | None = None, **options: Any) -> Sender:
        senders.append(Sender(tmp_path, receiver.url, secrets or [OLD], **options))
        return senders[-1]

    yield start
    for sender in senders:
        if not sender.task.done():
            await sender.close()


def users(receiver: Receiver) -> list[str]:
    """Of all events that were taken, in order."""
    return [item["user_id"] for one in receiver.accepted for item in json.loads(one.body)["data"]["items"]]


async def test_events_arrive_signed_and_in_order_and_begin_when_the_webhook_is_made(
    start: Callable[..., Sender], receiver: Receiver
) -> None:
    sender = start()
    await sender.begun()
    await sender.add(keys_of("post", range(35)))
    await sender.until(lambda: len(users(receiver)) == 35)

    assert users(receiver) == [f"u{user}" for user in range(35)]
    for one in receiver.accepted:
        body = json.loads(one.body)
        now_ms = SystemClock.wall_ms()
        assert verify(one.headers, one.body, [key_of(OLD)], now_ms) == body["data"]["cursor"]
        assert body["type"] == "hearts.changed"
        with pytest.raises(Forbidden):
            verify(one.headers, one.body + b" ", [key_of(OLD)], now_ms)


async def test_two_secrets_both_sign_so_that_one_can_be_replaced(
    start: Callable[..., Sender], receiver: Receiver
) -> None:
    sender = start([OLD, NEW])
    await sender.begun()
    await sender.add(keys_of("post", range(1)))
    await sender.until(lambda: len(receiver.accepted) == 1)

    [one] = receiver.accepted
    for secret in (OLD, NEW):
        assert verify(one.headers, one.body, [key_of(secret)], SystemClock.wall_ms())


@pytest.mark.parametrize(
    "behave",
    [storm(50), throttling(2, 0), lambda r: Answer(resets=r.number % 3 == 1)],
    ids=["storm", "throttling", "resets"],
)
async def test_what_fails_is_tried_again_with_the_same_id_and_body_and_nothing_overtakes_it(
    start: Callable[..., Sender], receiver: Receiver, behave: Callable[[Any], Answer]
) -> None:
    receiver.behave = behave
    sender = start()
    await sender.begun()
    for first in range(0, 60, 20):
        await sender.add(keys_of("post", range(first, first + 20)))
    await sender.until(lambda: len(users(receiver)) == 60)

    assert users(receiver) == [f"u{user}" for user in range(60)]
    assert len(receiver.received) > len(receiver.accepted)
    bodies: dict[str, bytes] = {}
    for one in receiver.received:
        assert bodies.setdefault(one.id, one.body) == one.body


async def test_a_sender_that_starts_again_goes_on_where_it_stood(
    start: Callable[..., Sender], receiver: Receiver
) -> None:
    sender = start()
    await sender.begun()
    await sender.add(keys_of("post", range(5)))
    await sender.until(lambda: sender.webhook.delivered == 5)
    receiver.behave = storm()
    await sender.add(keys_of("post", range(5, 9)))
    await sender.until(lambda: sender.webhook.failures > 2)
    assert sender.webhook.last_error == "status 503"
    await sender.close()

    receiver.behave = healthy
    sender = start()
    await sender.until(lambda: sender.webhook.delivered == 4)
    assert users(receiver) == [f"u{user}" for user in range(9)]


async def test_410_switches_it_off_until_it_is_switched_on(
    start: Callable[..., Sender], receiver: Receiver
) -> None:
    receiver.behave = gone
    sender = start()
    await sender.begun()
    await sender.add(keys_of("post", range(3)))
    await sender.until(lambda: sender.webhook.is_disabled)
    await sender.close()
    receiver.behave = healthy
    sender = start()
    await sender.until(lambda: sender.webhook.is_disabled)
    await sender.add(keys_of("post", range(3, 4)))
    assert len(receiver.received) == 1
    assert sender.webhook.delivered == 0

    await sender.webhook.enable()
    await sender.until(lambda: sender.webhook.delivered == 4)
    assert users(receiver) == ["u0", "u1", "u2", "u3"]


async def test_replay_posts_again_what_comes_behind_a_cursor_at_once(
    start: Callable[..., Sender], receiver: Receiver
) -> None:
    sender = start()
    await sender.begun()
    await sender.add(keys_of("post", range(6)))
    await sender.until(lambda: sender.webhook.delivered == 6)
    behind_third = (await sender.feed.read("", 3)).cursor

    await sender.webhook.replay(behind_third)
    await sender.until(lambda: sender.webhook.delivered == 9)
    assert users(receiver) == ["u0", "u1", "u2", "u3", "u4", "u5", "u3", "u4", "u5"]
    await sender.webhook.replay("")
    await sender.until(lambda: sender.webhook.delivered == 15)
    with pytest.raises(Gone):
        await sender.webhook.replay("0123456789abcdef-1")


async def test_events_that_were_trimmed_are_counted_as_missed_and_the_rest_arrives(
    start: Callable[..., Sender], receiver: Receiver
) -> None:
    sender = start()
    await sender.begun()
    receiver.behave = gone
    await sender.add(keys_of("post", range(3)))
    await sender.until(lambda: sender.webhook.is_disabled)
    await sender.store.trim_events(SystemClock.wall_ms() + 60_000, 1_000)
    await sender.add(keys_of("post", range(3, 5)))
    receiver.behave = healthy
    await sender.webhook.enable()
    await sender.until(lambda: sender.webhook.delivered == 2)

    assert users(receiver) == ["u3", "u4"]
    assert sender.webhook.missed == 1


async def test_private_addresses_are_refused_unless_they_are_allowed(
    tmp_path: Path, receiver: Receiver
) -> None:
    sender = Sender(tmp_path, receiver.url, [OLD])
    sender.webhook._post = Poster(Bounds(5, 1_000)).post
    await sender.begun()
    await sender.add(keys_of("post", range(1)))
    await sender.until(lambda: sender.webhook.failures > 0)

    assert receiver.received == []
    assert "127.0.0.1" in sender.webhook.last_error
    await sender.close()
