"""Idempotency-Keys: a write that is repeated with its key is answered, not done again.

The record of a key is a note in the journal, written with the effect: after a crash
either both are there or neither. While the first request is under way a second one is
told to come back; one with the same key and another body is refused, because answering
it with the first one's result would be a lie.

Only successes are remembered: what failed may be tried again with the same key.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from heartcast.core.errors import Conflict, InvalidInput
from heartcast.push.journal import Note

KIND = "i:"


class Record(msgspec.Struct, gc=False):
    """What was answered to a key."""

    fingerprint: bytes
    """Of the request's body."""
    status: int
    """0 while the first request is under way."""
    body: bytes
    until_ms: int


class Use(NamedTuple):
    """One request with a key; ``Once.begin`` gives it, ``keep`` or ``drop`` ends it."""

    key: str
    fingerprint: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Record).decode


class Once:
    """The keys of the last day.

    Args:
        limit: Keys remembered; one more, and the oldest is forgotten.
        keep_ms: How long each is remembered.
    """

    def __init__(self, limit: int, keep_ms: int) -> None:
        self._limit = limit
        self._keep_ms = keep_ms
        self._records: OrderedDict[str, Record] = OrderedDict()
        self.replayed = 0
        """Requests that were answered from a record."""

    def begin(self, key: str, scope: str, body: bytes, now_ms: int) -> Use | Record:
        """A request with this key.

        Args:
            key: As the client sent it, without quotes.
            scope: Who asks for what: the same key means nothing anywhere else.

        Returns:
            The record to answer with, or the use that the caller must end.

        Raises:
            InvalidInput: it was used with another body (``idempotency_key_reused``).
            Conflict: the first request with it is under way (``idempotency_key_in_use``).
        """
        name = KIND + blake2b(f"{scope}\0{key}".encode(), digest_size=16).hexdigest()
        fingerprint = blake2b(body, digest_size=16).digest()
        record = self._records.get(name)
        if record is None or (record.status and record.until_ms < now_ms):
            self._records[name] = Record(fingerprint, 0, b"", now_ms + self._keep_ms)
            return Use(name, fingerprint)
        if record.fingerprint != fingerprint:
            raise InvalidInput(
                "this Idempotency-Key was used with another body", code="idempotency_key_reused"
            )
        if not record.status:
            raise Conflict(
                "the first request with this Idempotency-Key is under way", code="idempotency_key_in_use"
            )
        self.replayed += 1
        return record

    def note(self, use: Use, status: int, body: bytes, now_ms: int) -> Note:
        """What must be written with the effect."""
        record = Record(use.fingerprint, status, body, now_ms + self._keep_ms)
        return Note(use.key, _encode(record), record.until_ms)

    def keep(self, use: Use, status: int, body: bytes, now_ms: int) -> None:
        """The effect is there."""
        self._keep(use.key, Record(use.fingerprint, status, body, now_ms + self._keep_ms))

    def _keep(self, key: str, record: Record) -> None:
        self._records.pop(key, None)
        self._records[key] = record
        if len(self._records) > self._limit:
            self._records.popitem(last=False)

    def drop(self, use: Use) -> None:
        """There was no effect: the key may be used again, unless another node answered meanwhile."""
        record = self._records.get(use.key)
        if record is not None and not record.status:
            del self._records[use.key]

    def learn(self, note: Note) -> None:
        """Another node has answered a request with this key."""
        if note.value is not None:
            self._keep(note.key, _decode(note.value))

    def restore(self, notes: Iterable[Note]) -> None:
        found = [(note.until_ms, note.key, _decode(note.value or b"")) for note in notes]
        for _, key, record in sorted(found, key=lambda entry: entry[:2])[-self._limit :]:
            self._records[key] = record

    def forget(self, now_ms: int) -> None:
        """Drop the records that are too old."""
        while self._records:
            key, record = next(iter(self._records.items()))
            # Oldest first, so what follows is younger.
            if record.until_ms >= now_ms or not record.status:
                return
            del self._records[key]
