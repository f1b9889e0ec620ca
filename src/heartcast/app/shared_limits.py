"""Budgets in Redis: the connection they share, its breaker, and closing them.

Redis need not be there when heartcast starts: what happens without it is
``limits.on_error``, at the start as later.
"""

from __future__ import annotations

from heartcast.api.admission import BUDGETS
from heartcast.app.guards import LIMITS
from heartcast.app.heart_stores import require_driver
from heartcast.app.settings import Settings
from heartcast.core.clock import Clock
from heartcast.core.errors import SettingsError
from heartcast.resilience.breaker import Registry


class SharedLimits:
    """All budgets and their connection. Make it on the running loop, and ``close`` it there.

    Raises:
        SettingsError: there is no URL, no driver, or a limit that Redis cannot count exactly.
    """

    def __init__(self, settings: Settings, clock: Clock, breakers: Registry) -> None:
        require_driver("hiredis", "redis")
        from heartcast.api.shared_budget import SharedBudget
        from heartcast.backends.redis_pipe import RedisPipe
        from heartcast.resilience.limits.shared_bucket import SharedBucket, script_of

        options = settings.limits
        url = options.redis_url or settings.cluster.redis_url or settings.hearts.redis_url
        if not url:
            raise SettingsError("must be set, or cluster.redis_url, to share limits", path="limits.redis_url")
        limits = {
            (name, part): options.limit(name, part) for name in BUDGETS for part in ("client", "prefix")
        }
        try:
            scripts = [script_of(limit) for limit in limits.values()]
        except ValueError as error:
            raise SettingsError(str(error), path="limits") from None
        self._pipe = RedisPipe(url, timeout_s=options.timeout_s, scripts=scripts)
        breaker = breakers.get(LIMITS, now_ns=clock.monotonic_ns())

        def bucket(name: str, part: str) -> SharedBucket:
            return SharedBucket(
                self._pipe.send,
                breaker,
                f"{settings.hearts.redis.prefix}limit:{name}:{part}",
                limits[name, part],
                now_ns=clock.monotonic_ns,
                on_error=options.on_error,
                instances=options.instances,
            )

        self.budgets = {
            name: SharedBudget(bucket(name, "client"), bucket(name, "prefix")) for name in BUDGETS
        }

    async def close(self) -> None:
        """Give back what is held, then hang up."""
        for budget in self.budgets.values():
            budget.close()
        await self._pipe.close()
