"""For your tests and ours: a clock moved by hand, contract suites per port, a real server."""

from heartcast.testing.clock import ManualClock

__all__ = ["ManualClock"]
