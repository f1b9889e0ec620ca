"""Push's inbox behind realtime's ChannelLog."""

from __future__ import annotations

import pytest

from heartcast.app.inbox_channel import InboxChannels, deliver_by
from heartcast.core.errors import StoreUnavailable
from heartcast.push.model import Push
from heartcast.realtime.log import Complete, Gap, Position, Publication
from heartcast.testing.pushes import PushRig


@pytest.fixture
def rig() -> PushRig:
    return PushRig()


@pytest.fixture
def log(rig: PushRig) -> InboxChannels:
    return InboxChannels(rig.service)


def waiting(rig: PushRig, count: int, user: str = "ann") -> list[Push]:
    pushes = [rig.push(user, str(n)) for n in range(count)]
    rig.turns.settle()
    return pushes


def ask(
    log: InboxChannels, position: Position | None, limit: int = 300, channel: str = "inbox:#ann"
) -> Complete | Gap:
    answers: list[Complete | Gap | StoreUnavailable] = []
    log.since(channel, position, limit, answers.append)
    [answer] = answers
    assert not isinstance(answer, StoreUnavailable)
    return answer


def page(log: InboxChannels, after: Position | None, limit: int, *, reverse: bool = False) -> list[int]:
    answers: list[Complete | Gap | StoreUnavailable] = []
    log.history("inbox:#ann", after, limit, reverse, answers.append)
    [answer] = answers
    assert isinstance(answer, Complete)
    return [publication.offset for publication in answer.publications]


def test_a_first_subscription_stands_before_the_oldest_unacknowledged(
    rig: PushRig, log: InboxChannels
) -> None:
    pushes = waiting(rig, 3)
    rig.service.delivery.acknowledge("ann", [pushes[0].id], 0)

    answer = ask(log, None)
    assert isinstance(answer, Complete)
    assert answer.top.offset == 1
    assert [(p.offset, p.tags) for p in answer.publications] == [
        (2, {"id": pushes[1].id}),
        (3, {"id": pushes[2].id}),
    ]


def test_a_position_gets_what_came_after_it_and_the_top(rig: PushRig, log: InboxChannels) -> None:
    waiting(rig, 3)
    first = ask(log, None)
    answer = ask(log, Position(1, first.top.epoch))
    assert isinstance(answer, Complete)
    assert [p.offset for p in answer.publications] == [2, 3]
    assert answer.top == Position(3, first.top.epoch)


def test_a_position_of_another_life_or_too_far_back_is_a_gap(rig: PushRig, log: InboxChannels) -> None:
    waiting(rig, 3)
    epoch = ask(log, None).top.epoch
    assert ask(log, Position(1, "other")) == Gap(Position(3, epoch))
    assert ask(log, Position(0, epoch), limit=2) == Gap(Position(3, epoch))


def test_an_empty_inbox_is_complete(log: InboxChannels) -> None:
    answer = ask(log, None, channel="inbox:#n%20obody")
    assert isinstance(answer, Complete)
    assert (answer.publications, answer.top.offset) == ([], 0)
    assert ask(log, answer.top, channel="inbox:#n%20obody") == answer


def test_pages_go_both_ways(rig: PushRig, log: InboxChannels) -> None:
    pushes = waiting(rig, 5)
    at_three = Position(3, ask(log, None).top.epoch)
    assert page(log, None, 2) == [1, 2]
    assert page(log, at_three, 10) == [4, 5]
    assert page(log, None, 0) == []
    assert page(log, None, 2, reverse=True) == [5, 4]
    assert page(log, at_three, 10, reverse=True) == [2, 1]
    # A page read backwards was handed to a device as well: it can no longer be taken back.
    assert [push.attempts for push in pushes] == [3, 3, 1, 3, 3]


def test_only_pushes_get_into_an_inbox(log: InboxChannels) -> None:
    answers: list[Position | StoreUnavailable] = []
    log.append("inbox:#ann", b"{}", None, None, answers.append)
    [answer] = answers
    assert isinstance(answer, StoreUnavailable)
    assert answer.code == "inbox_takes_pushes"


def test_delivery_hands_the_hub_a_publication() -> None:
    class Hub:
        def deliver(self, channel: str, publication: Publication) -> int:
            self.got = (channel, publication)
            return 2

    hub = Hub()
    assert deliver_by(hub)("inbox:#ann", b"{}", 7, {"id": "x"}) == 2
    assert hub.got == ("inbox:#ann", Publication(b"{}", 7, {"id": "x"}))
