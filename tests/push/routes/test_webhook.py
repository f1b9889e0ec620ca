"""The route ``webhook``, against the contract of routes."""

from __future__ import annotations

from random import Random

from heartcast.push.routes import Result
from heartcast.push.routes.door import WebhookDoor
from heartcast.push.routes.options import Webhook, WebhookOptions
from heartcast.push.routes.webhook import WebhookRoute
from heartcast.push.webhooks import WebhookBook
from heartcast.testing.contracts.route import RouteBench, RouteContract, Says
from heartcast.testing.providers import ManualReceiver, healthy, hung, storm
from heartcast.testing.turns import ManualTurns

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BEHAVIOURS = {
    Says.TAKES: healthy,
    Says.FAILS: storm(100),
    Says.REFUSES: storm(100, status=400),
    Says.HANGS: hung,
}


class WebhookBench(RouteBench):
    """One endpoint, with a breaker that has not seen enough to open."""

    name = "webhook:crm"
    limit = 3
    time_s = 2.0

    def __init__(self) -> None:
        super().__init__()
        options = WebhookOptions(
            endpoints={"crm": Webhook(url="https://crm.example/", secrets=[SECRET])},
            in_flight=self.limit,
            timeout_s=self.time_s,
        )
        self.receiver = ManualReceiver(self.turns, self.time_s)
        self.route = WebhookRoute(
            options, self.clock, book=WebhookBook(options), posting=self.receiver,
            note=lambda note: None, random=Random(1),
        )  # fmt: skip

    def say(self, says: Says) -> None:
        self.receiver.behave = BEHAVIOURS[says]

    def tries(self) -> list[str]:
        return [request.id for request in self.receiver.received]

    @property
    def under_way(self) -> int:
        return self.receiver.under_way


class TestWebhookRoute(RouteContract):
    def open(self) -> RouteBench:
        return WebhookBench()


class DoorBench(WebhookBench):
    """One shard's way to an endpoint that all shards of a node share."""

    def __init__(self) -> None:
        super().__init__()
        assert isinstance(self.route, WebhookRoute)
        self.posts = self.route
        self.is_ours = True
        self.turns = ManualTurns(self.clock, lambda now_s: self.posts.tick(self.clock.wall_ms()))
        self.receiver = self.posts._posting = ManualReceiver(self.turns, self.time_s)
        self.route = WebhookDoor(self.posts, lambda: self.is_ours)


class TestWebhookDoor(RouteContract):
    def open(self) -> RouteBench:
        return DoorBench()

    def test_nothing_leaves_when_the_shard_is_somebody_elses(self) -> None:
        assert isinstance(self.bench, DoorBench)
        self.bench.is_ours = False
        push = self.send(1)
        self.bench.turns.advance(1)
        assert (self.results(), self.bench.tries()) == ([(push.id, Result.UNTRIED)], [])

    def test_one_shard_that_goes_takes_nothing_from_another_and_hears_nothing_more(self) -> None:
        assert isinstance(self.bench, DoorBench)
        ours, other = self.bench.route, WebhookDoor(self.bench.posts, lambda: True)
        told: list[str] = []
        other.done = lambda push, route, outcome, now_ms: told.append(f"{push.id} {outcome.result.value}")
        self.send(1)
        self.bench.route = other
        self.send(2)
        ours.close()
        self.bench.turns.advance(1)
        assert (self.told, told) == ([], ["p002 taken"])
        assert self.bench.tries() == ["p001", "p002"]
