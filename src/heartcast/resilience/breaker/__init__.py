"""Circuit breakers: keep calls away from a dependency that fails, and find out when it is back.

``Circuit`` goes around code; ``Breaker`` is the state machine under it, told the time;
``Registry`` has one per dependency and partition; ``SloGate`` is the dynamic threshold.
"""

from heartcast.resilience.breaker.breaker import Breaker, Change
from heartcast.resilience.breaker.gate import GatePolicy, SloGate
from heartcast.resilience.breaker.guard import Circuit, Outcome, classify
from heartcast.resilience.breaker.policy import HEARTS, BreakerPolicy, State
from heartcast.resilience.breaker.registry import Registry

__all__ = [
    "HEARTS",
    "Breaker",
    "BreakerPolicy",
    "Change",
    "Circuit",
    "GatePolicy",
    "Outcome",
    "Registry",
    "SloGate",
    "State",
    "classify",
]
