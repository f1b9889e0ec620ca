"""For your tests and ours: a clock moved by hand, contract suites per port, a real server."""

from heartcast.testing.clock import ManualClock
from heartcast.testing.server import RunningServer, running

__all__ = ["ManualClock", "RunningServer", "running"]
