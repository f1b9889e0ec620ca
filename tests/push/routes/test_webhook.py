"""The route ``webhook``, against the contract of routes."""

from __future__ import annotations

from random import Random

from heartcast.push.routes.options import Webhook, WebhookOptions
from heartcast.push.routes.webhook import WebhookRoute
from heartcast.push.webhooks import WebhookBook
from heartcast.testing.contracts.route import RouteBench, RouteContract, Says
from heartcast.testing.providers import ManualReceiver, healthy, hung, storm

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
