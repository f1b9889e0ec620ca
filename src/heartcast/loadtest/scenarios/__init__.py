"""What each kind of scenario does; ``scene_of`` finds it."""

from __future__ import annotations

from heartcast.loadtest.run import Run, Scene
from heartcast.loadtest.scenario import Fanout, Hearts, Mixed, Push, Slow, Storm
from heartcast.loadtest.scenarios.broadcast import FanoutScene, SlowScene, StormScene
from heartcast.loadtest.scenarios.hearts import HeartsScene
from heartcast.loadtest.scenarios.mixed import MixedScene
from heartcast.loadtest.scenarios.push import PushScene


def scene_of(run: Run) -> Scene:
    """The scene of the run's scenario."""
    scenario = run.scenario
    match scenario:
        case Push():
            return PushScene(run, scenario)
        case Fanout():
            return FanoutScene(run, scenario)
        case Hearts():
            return HeartsScene(run, scenario)
        case Mixed():
            return MixedScene(run, scenario)
        case Storm():
            return StormScene(run, scenario)
        case Slow():
            return SlowScene(run, scenario)
