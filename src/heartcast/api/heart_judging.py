"""Asking the abuse guard about hearts that come by HTTP."""

from __future__ import annotations

from heartcast.api.admission import prefix_of
from heartcast.api.auth.devices import Devices
from heartcast.api.route import Call, Identity
from heartcast.core.clock import Clock
from heartcast.hearts.abuse import AbuseGuard, Giver
from heartcast.hearts.model import HeartKey


class Judging:
    """Says of each heart whether it is shadowed.

    Args:
        devices: Knows browsers by their signed names; None: there are none.
    """

    def __init__(self, guard: AbuseGuard, clock: Clock, devices: Devices | None) -> None:
        self._guard = guard
        self._clock = clock
        self._devices = devices

    def shadows(self, call: Call, key: HeartKey) -> bool:
        """Whether this heart is seen by its giver only. Servers answer for their users themselves."""
        identity = call.identity
        if not _is_judged(identity, key):
            return False
        reason = self._guard.judge(
            Giver(key.user_id, self._device(call), prefix_of(call.peer), identity.is_visitor),
            key.target_id,
            now_ns=self._clock.monotonic_ns(),
            now_ms=self._clock.wall_ms(),
        )
        return reason is not None

    def _device(self, call: Call) -> str:
        if call.identity.is_visitor:
            return call.identity.user or ""
        visitor = self._devices.of(call.headers) if self._devices is not None else None
        return "" if visitor is None else visitor.user


def _is_judged(identity: Identity, key: HeartKey) -> bool:
    # Whoever acts for others forwards their clicks: the address would be the forwarder's.
    return not identity.is_server and identity.user == key.user_id
