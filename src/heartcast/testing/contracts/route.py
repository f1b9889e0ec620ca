"""What every ``Route`` must keep, one test per guarantee of its docstring.

    class TestMyRoute(RouteContract):
        def open(self): return MyBench()

Time is moved by hand: whatever the route waits for waits on the bench's turns.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum

from heartcast.push.model import Push, State
from heartcast.push.routes import Outcome, Result, Route
from heartcast.push.templates import load
from heartcast.testing.clock import ManualClock
from heartcast.testing.turns import ManualTurns

_TEMPLATE = load().find("news_v2")


class Says(Enum):
    """What the other side does with a try."""

    TAKES = Result.TAKEN
    FAILS = "fails"
    REFUSES = Result.REFUSED
    HANGS = "hangs"
    """It never answers."""

    @property
    def result(self) -> Result:
        """What the route makes of it."""
        return self.value if isinstance(self.value, Result) else Result.FAILED


class RouteBench(ABC):
    """A route, one destination of it, and the other side, on a clock moved by hand."""

    route: Route
    name: str
    """The destination as pushes name it: ``webhook:crm``."""
    limit: int
    """Tries that the route may have under way, >= 2."""
    time_s: float
    """Longest time of one try, in seconds."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.turns = ManualTurns(self.clock, lambda now_s: self.route.tick(self.clock.wall_ms()))

    @abstractmethod
    def say(self, says: Says) -> None:
        """What happens to tries from now on."""

    @abstractmethod
    def tries(self) -> list[str]:
        """Id of the push, as the other side knows it, of every try so far, in order."""

    @property
    @abstractmethod
    def under_way(self) -> int:
        """Tries that the other side has not answered and that have not been given up."""


class RouteContract(ABC):
    """Inherit, say how to set up your route, and run."""

    @abstractmethod
    def open(self) -> RouteBench:
        """A route that nothing has happened to, in front of another side that takes everything."""

    def setup_method(self) -> None:
        self.bench = self.open()
        self.told: list[tuple[str, str, Outcome]] = []
        self.bench.route.done = lambda push, route, outcome, _: self.told.append((push.id, route, outcome))

    def send(self, number: int) -> Push:
        """A push on its way, tried once."""
        now_ms = self.bench.clock.wall_ms()
        push = Push(f"p{number:03}", "ann", False, _TEMPLATE, b'{"title":"x"}', now_ms, now_ms, State.SENT)
        self.bench.route.send(push, self.bench.name, now_ms)
        return push

    def results(self) -> list[tuple[str, Result]]:
        """(push id, result) of everything told so far."""
        return [(push_id, outcome.result) for push_id, _, outcome in self.told]

    def test_1_every_push_is_answered_once_whatever_the_other_side_does(self) -> None:
        expected = []
        for number, says in enumerate(Says):
            self.bench.say(says)
            self.send(number)
            self.bench.turns.advance(2 * self.bench.time_s, step_s=0.1)
            expected.append((f"p{number:03}", says.result))
        self.bench.turns.advance(10 * self.bench.time_s, step_s=0.1)
        assert self.results() == expected
        assert {route for _, route, _ in self.told} == {self.bench.name}

    def test_2_every_try_of_a_push_shows_the_same_id(self) -> None:
        push = self.send(1)
        for says in (Says.FAILS, Says.HANGS, Says.TAKES):
            self.bench.turns.advance(2 * self.bench.time_s, step_s=0.1)
            self.bench.say(says)
            self.bench.route.send(push, self.bench.name, self.bench.clock.wall_ms())
        self.bench.turns.advance(2 * self.bench.time_s, step_s=0.1)
        assert self.bench.tries() == [push.id] * 4

    def test_3_a_push_that_ended_before_its_turn_is_passed_over_unseen(self) -> None:
        self.bench.say(Says.HANGS)
        ahead = [self.send(number) for number in range(self.bench.limit)]
        ended, behind = self.send(100), self.send(101)
        self.bench.turns.advance(self.bench.time_s / 2, step_s=0.1)
        assert self.told == []
        ended.state = State.CANCELLED
        self.bench.say(Says.TAKES)
        self.bench.turns.advance(2 * self.bench.time_s, step_s=0.1)
        assert self.bench.tries() == [push.id for push in ahead] + [behind.id]
        results = dict(self.results())
        assert (results[ended.id], results[behind.id]) == (Result.UNTRIED, Result.TAKEN)
        assert ended.asked.posted == 0

    def test_4_every_try_that_the_other_side_may_have_seen_is_counted(self) -> None:
        pushes = [self.send(number) for number in range(3)]
        for says in (Says.FAILS, Says.HANGS, Says.REFUSES):
            self.bench.turns.advance(4 * self.bench.time_s, step_s=0.1)
            self.bench.say(says)
            for push in pushes:
                self.bench.route.send(push, self.bench.name, self.bench.clock.wall_ms())
        self.bench.turns.advance(4 * self.bench.time_s, step_s=0.1)
        tries = self.bench.tries()
        assert [push.asked.posted for push in pushes] == [tries.count(push.id) for push in pushes] == [4] * 3

    def test_5_no_try_lasts_longer_than_its_time_and_no_more_than_the_limit_are_under_way(self) -> None:
        bench = self.bench
        bench.say(Says.HANGS)
        for number in range(3 * bench.limit):
            self.send(number)
            assert bench.under_way <= bench.limit
        for rounds in range(1, 4):
            assert bench.under_way == bench.limit
            bench.turns.advance(bench.time_s - 0.2, step_s=0.1)
            assert len(self.told) == (rounds - 1) * bench.limit
            bench.turns.advance(0.2, step_s=0.1)
            assert len(self.told) == rounds * bench.limit
        assert bench.under_way == 0

    def test_6_pushes_of_one_destination_get_their_turns_in_the_order_given(self) -> None:
        pushes = [self.send(number) for number in range(10 * self.bench.limit)]
        self.bench.turns.advance(self.bench.time_s, step_s=0.1)
        ids = [push.id for push in pushes]
        assert self.bench.tries() == [push_id for push_id, _ in self.results()] == ids
