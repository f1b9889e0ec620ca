"""What stores keep of requests that are done once: a receipt and the outcomes."""

from __future__ import annotations

import msgspec

from heartcast.core.errors import InvalidInput
from heartcast.hearts.model import Once, Outcome, Receipt

MOST_TRIMMED = 200
"""Receipts whose time is over, dropped whenever a new one is written: more than come."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Outcome]).decode


class Record(msgspec.Struct, frozen=True):
    """What was done under a receipt."""

    receipt: Receipt
    outcomes: list[Outcome]

    def is_over(self, now_ms: int) -> bool:
        return self.receipt.until_ms < now_ms

    def answer(self, asked: Receipt) -> Once | InvalidInput:
        """What to tell whoever asks with a receipt of this name."""
        if asked.fingerprint != self.receipt.fingerprint:
            return InvalidInput(
                "this Idempotency-Key was used for another request", code="idempotency_key_reused"
            )
        return Once(self.outcomes, is_repeated=True)

    def recalled(self, asked: Receipt, now_ms: int) -> Once | None:
        """What ``HeartStore.recall`` tells and raises of this record."""
        if self.is_over(now_ms):
            return None
        answer = self.answer(asked)
        if isinstance(answer, InvalidInput):
            raise answer
        return answer

    def row(self) -> tuple[bytes, bytes, int, bytes]:
        """As it lies in a table: name, fingerprint, until_ms, outcomes."""
        return (*self.receipt, _encode(self.outcomes))


def record_of(row: tuple[bytes, bytes, int, bytes]) -> Record:
    """What ``Record.row`` made a row of."""
    name, fingerprint, until_ms, outcomes = row
    return Record(Receipt(bytes(name), bytes(fingerprint), until_ms), _decode(outcomes))
