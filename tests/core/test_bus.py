"""The bus loses nothing in silence: a view gets every event or is told that it is stale."""

from collections.abc import Callable

from heartcast.core.bus import Bus


class View:
    """Remembers what the bus said."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.stale = 0

    def apply(self, events: list[int]) -> None:
        self.seen += events

    def mark_stale(self) -> None:
        self.stale += 1


class BrokenView(View):
    def apply(self, events: list[int]) -> None:
        raise RuntimeError("broken")


def _bus(limit: int = 10) -> tuple[Bus[int], list[Callable[[], None]]]:
    deferred: list[Callable[[], None]] = []
    return Bus(deferred.append, limit), deferred


def test_events_of_one_turn_arrive_as_one_batch_in_order() -> None:
    bus, deferred = _bus()
    view = View()
    bus.follow(view)
    for event in (1, 2, 3):
        bus.publish(event)

    assert len(deferred) == 1
    assert view.seen == []
    deferred.pop()()
    assert view.seen == [1, 2, 3]


def test_a_full_bus_drops_counts_and_marks_every_view_stale_once() -> None:
    bus, deferred = _bus(limit=2)
    view = View()
    bus.follow(view)
    for event in (1, 2, 3, 4):
        bus.publish(event)
    deferred.pop()()

    assert bus.dropped == 2
    assert view.seen == []
    assert view.stale == 1


def test_a_view_that_raises_is_marked_stale_and_the_others_get_the_events() -> None:
    bus, deferred = _bus()
    broken, sound = BrokenView(), View()
    bus.follow(broken)
    bus.follow(sound)
    bus.publish(7)
    deferred.pop()()

    assert broken.stale == 1
    assert sound.seen == [7]
    assert bus.failed == 1


def test_what_is_published_while_delivering_comes_with_the_next_batch() -> None:
    bus, deferred = _bus()

    class Echo(View):
        def apply(self, events: list[int]) -> None:
            super().apply(events)
            if events == [1]:
                bus.publish(2)

    view = Echo()
    bus.follow(view)
    bus.publish(1)
    deferred.pop()()
    deferred.pop()()

    assert view.seen == [1, 2]


def test_a_bus_filled_exactly_to_its_limit_has_lost_nothing() -> None:
    bus, deferred = _bus(limit=2)
    view = View()
    bus.follow(view)
    bus.publish(1)
    bus.publish(2)
    deferred.pop()()

    assert view.seen == [1, 2]
    assert view.stale == 0


def test_events_lost_elsewhere_make_every_view_stale() -> None:
    bus, deferred = _bus()
    view = View()
    bus.follow(view)
    bus.publish(1)
    bus.mark_stale()
    deferred.pop()()

    assert view.stale == 1
    assert view.seen == []
