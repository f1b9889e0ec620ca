"""How many requests for the application are started in one turn of the event loop, and which."""

from collections.abc import Callable
from typing import Any, cast

from heartcast.gateway.starting import PER_TURN, Starting


class Loop:
    """Turns of an event loop, by hand."""

    def __init__(self) -> None:
        self._soon: list[Callable[[], Any]] = []

    def call_soon(self, callback: Callable[..., Any], *arguments: Any) -> None:
        self._soon.append(lambda: callback(*arguments))

    def turn(self) -> None:
        soon, self._soon = self._soon, []
        for callback in soon:
            callback()

    @property
    def is_idle(self) -> bool:
        return not self._soon


class World:
    def __init__(self) -> None:
        self.starting, self.loop = Starting(), Loop()
        self.started: list[str] = []

    def add(self, name: str, count: int, *, is_critical: bool = False) -> None:
        for _ in range(count):
            self.starting.add(
                cast(Any, self.loop), lambda: self.started.append(name), is_critical=is_critical
            )


def test_the_first_are_started_at_once_and_the_rest_so_many_in_each_turn_in_order() -> None:
    world = World()
    for number in range(PER_TURN * 2 + 3):
        world.add(str(number), 1)
    seen = []
    while not world.loop.is_idle:
        seen.append(len(world.started))
        world.loop.turn()

    assert seen == [PER_TURN, PER_TURN * 2, PER_TURN * 2 + 3, PER_TURN * 2 + 3][: len(seen)]
    assert world.started == [str(number) for number in range(PER_TURN * 2 + 3)]


def test_what_is_critical_overtakes_what_waits() -> None:
    world = World()
    world.add("normal", PER_TURN + 5)
    world.add("critical", 1, is_critical=True)
    world.loop.turn()

    assert world.started == ["normal"] * PER_TURN + ["critical"] + ["normal"] * 5


def test_a_turn_that_is_over_makes_room_again_and_nothing_runs_when_nothing_waits() -> None:
    world = World()
    for turn in range(1, 4):
        world.add("a", PER_TURN)
        assert len(world.started) == turn * PER_TURN
        world.loop.turn()
    world.loop.turn()

    assert world.loop.is_idle


def test_a_request_that_is_started_may_bring_the_next_one() -> None:
    world = World()

    def again(left: int) -> None:
        world.started.append("x")
        if left:
            world.starting.add(cast(Any, world.loop), lambda: again(left - 1), is_critical=False)

    again(PER_TURN * 3)
    while not world.loop.is_idle:
        world.loop.turn()
    assert len(world.started) == PER_TURN * 3 + 1
