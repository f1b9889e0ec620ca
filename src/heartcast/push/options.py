"""Settings of the push domain: how much may wait, for how long, and who works it off."""

from __future__ import annotations

from typing import Literal

import msgspec

from heartcast.push.merging import MergingOptions
from heartcast.push.routes.options import WebhookOptions
from heartcast.resilience.limits import dual_limiter

_DIVIDED = (
    "max_kept_bytes",
    "max_far",
    "max_dead",
    "max_keys",
    "max_dedupe_keys",
    "max_ended",
    "max_subscriptions",
)
"""What all shards may hold together."""


class CapOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many pushes one user gets: a hard cap, and a rate inside of it."""

    cap: str
    """An exact sliding window, like ``3/day log``."""

    smooth: str
    """A token bucket, like ``20/min``: what may come in a burst."""

    mode: Literal["suppress", "defer"] = "suppress"
    """What happens to one too many: it ends, or it waits until it is admitted."""

    def __post_init__(self) -> None:
        dual_limiter(self.cap, self.smooth)


class PushOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ``[push]`` part of the settings.

    Own templates are TOML files in the folder ``templates`` of the data directory, one
    version of one template a file; see ``heartcast.push.templates`` for their fields.
    A file with the name and version of a starter template replaces it.
    """

    shards: int = 64
    """Queues that users are spread over (``user_id % shards``). A user's pushes stay in
    one queue, which is what keeps them in order."""

    workers: int = 8
    """Workers; each owns a fixed range of shards. At most one per shard."""

    tick_s: float = 0.05
    """Longest sleep of a worker that nobody woke, in seconds. The first push of an empty
    shard wakes it at once, so this only bounds what a lost wake-up could cost."""

    slice_pushes: int = 64
    """Most pushes worked off before the event loop gets its turn back: about 0.2 ms, so
    that neither requests nor deliveries wait for a backlog."""

    max_queued_per_shard: int = 32_768
    """A shard this full answers 503: 64 full shards are two million pushes, which is a
    burst of twenty seconds at the fastest rate one process accepts."""

    max_kept: int = 2_000_000
    """Pushes without an end, waiting in shards or in inboxes, all users together; beyond
    it new ones get 503. About 0.5 KB each besides the payload."""

    max_kept_bytes: int = 512 * 1024 * 1024
    """The same bound in bytes of payload."""

    max_payload_bytes: int = 16_384
    """Largest payload of one push as compact JSON: a push announces, it does not carry."""

    max_deliveries: int = 100
    """Most times a push is sent to a connected user who never acknowledges it; then it dies,
    and its letter is kept. With the pauses above that is some eight hours."""

    fallback_after_s: float = 60.0
    """Seconds without an acknowledgement after which a push with a ``fallback`` goes on to it,
    where the push does not say."""

    merging: MergingOptions = msgspec.field(default_factory=MergingOptions)
    """When several pushes of one user go out as one frame on the route ``realtime``."""

    webhooks: WebhookOptions = msgspec.field(default_factory=WebhookOptions)

    max_inbox: int = 1_000
    """Pushes kept for one user; one more, and the user's oldest ends as
    ``expired(inbox_full)``."""

    ttl_s: float = 72 * 3600.0
    """How long a push may wait for its user, in seconds: a long weekend."""

    redeliver_after_s: float = 10.0
    """Seconds without an acknowledgement before a connected user gets a push again;
    doubled each time."""

    redeliver_at_most_s: float = 300.0
    """Longest pause between two redeliveries, in seconds."""

    cap: CapOptions | None = None
    """Cap on everything that a user gets; null: none, as only the operator knows how much is
    too much. Critical pushes are not counted."""

    category_caps: dict[str, CapOptions] = {}
    """Caps by category, beside the one above; both must admit."""

    quiet_jitter_s: float = 300.0
    """Pushes deferred by quiet hours leave within so many seconds after their end, each
    user's at one moment, so that seven o'clock is no stampede."""

    near_s: float = 900.0
    """Deferred pushes that are due within so many seconds are kept in memory; later ones in
    the journal only."""

    max_far: int = 10_000_000
    """Deferred pushes that are kept in the journal only; beyond it new ones get 503."""

    max_dead: int = 10_000
    """Dead letters kept; one more, and the oldest ends for good."""

    keep_keys_s: float = 24 * 3600.0
    """How long an Idempotency-Key is remembered, in seconds: longer than clients retry."""

    max_keys: int = 200_000
    """Idempotency-Keys remembered; one more, and the oldest is forgotten."""

    max_dedupe_keys: int = 1_000_000
    """Dedupe keys whose window is not over; with one more a push gets 503. About 0.3 KB each."""

    max_subscriptions: int = 2_000_000
    """Subscriptions to topics, all together; beyond it new ones get 503. About 0.1 KB each."""

    max_broadcasts: int = 1_000
    """Broadcasts whose record is kept. One more, and the oldest that is over goes; when none
    is, the new one gets 503."""

    broadcast_share: float = 0.8
    """How much of ``max_kept`` broadcasts may fill, 0 to 1: a large one to users who are away
    leaves room for single pushes, and goes on when some have ended."""

    max_ended: int = 200_000
    """Ended pushes whose record is kept for ``GET /api/v1/pushes/{id}``."""

    keep_ended_s: float = 24 * 3600.0
    """How long the record of an ended push is kept, in seconds."""

    stalled_after_s: float = 30.0
    """``/healthz`` turns 503 when a shard holds something and nothing moved for so many seconds."""

    def of_one_shard(self) -> PushOptions:
        """For a service that has one of the shards only: its part of what all may hold together."""
        part = {name: max(1, getattr(self, name) // self.shards) for name in _DIVIDED}
        # Of many shards at once the lost wake-up need not be found as fast.
        return msgspec.structs.replace(
            self, shards=1, workers=1, tick_s=max(self.tick_s, 0.25), max_kept=self.kept_of_one_shard, **part
        )

    @property
    def kept_of_one_shard(self) -> int:
        """Pushes that may wait and be in inboxes of one shard, where each has a service of its own."""
        return max(self.max_queued_per_shard, self.max_kept // self.shards)

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if name != "quiet_jitter_s" and isinstance(value, int | float) and value <= 0:
                raise ValueError(f"{name}: must be > 0, got {value}")
        if self.broadcast_share > 1:
            raise ValueError(f"broadcast_share: must be at most 1, got {self.broadcast_share}")
        if self.quiet_jitter_s < 0:
            raise ValueError(f"quiet_jitter_s: must be >= 0, got {self.quiet_jitter_s}")
        if self.workers > self.shards:
            raise ValueError(f"workers: must be at most shards ({self.shards}), got {self.workers}")
        if self.redeliver_at_most_s < self.redeliver_after_s:
            raise ValueError(
                f"redeliver_at_most_s: must be at least redeliver_after_s, got {self.redeliver_at_most_s}"
            )
