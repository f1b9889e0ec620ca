"""Who did what and when: a log that can be checked, and that forgets a person without a gap.

Each record is hashed together with the hash before it (SHA-256). Changing, dropping or
inserting a record breaks every hash behind it; cutting off the end is found by whoever kept
the number and hash of an earlier record.

A record does not hold the user. It holds a pseudonym, and the user's id encrypted with a key
of that person alone (AES-256-GCM). Deleting the key makes all records of the person
anonymous, and not one byte of the log is touched: it verifies as before.

It follows the outbox, which is written in the transaction of each heart: no heart is
without its record, and none has two.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from secrets import token_bytes, token_hex

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from heartcast.hearts.following import EffectsFile
from heartcast.hearts.model import Cause, Change, HeartEvent
from heartcast.hearts.outbox import cursor_of

START = bytes(32)
"""The hash in front of the first record."""
_NONCE_BYTES = 12


_ENTRIES = """
SELECT a.number, CAST(a.record AS BLOB), CAST(a.hash AS BLOB), p.key
FROM audit a LEFT JOIN person p ON p.pseudonym = a.person
WHERE a.number > :after
"""
_CHAIN = "SELECT number, CAST(record AS BLOB), CAST(hash AS BLOB) FROM audit ORDER BY number"
_OF_USER = " AND a.person = (SELECT pseudonym FROM person WHERE user = :user)"
_IN_ORDER = " ORDER BY a.number LIMIT :limit"


class Record(msgspec.Struct, frozen=True):
    """What is hashed, as JSON."""

    event: str
    at_ms: int
    delta: int
    cause: Cause
    person: str
    """Pseudonym; "" when the person had been erased already."""
    sealed: str
    """The user's id, encrypted, in hexadecimal."""
    target_id: str
    kind: str
    heart_id: str


class Entry(msgspec.Struct, frozen=True):
    """A record as it is exported."""

    number: int
    record: str
    """JSON, byte for byte what was hashed."""
    hash: str
    """SHA-256 of the hash before and the record, in hexadecimal."""
    user_id: str | None
    """Who it was; null: the person's key was deleted."""


class Verdict(msgspec.Struct, frozen=True):
    """What checking the chain found."""

    records: int
    """In the log."""
    hash: str
    """Of the last record that is right, in hexadecimal."""
    wrong: int | None
    """The first number at which the chain breaks; null: it does not."""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Record).decode


class Audit:
    """The log and its keys."""

    def __init__(self, file: EffectsFile) -> None:
        self._file = file

    def take(self, connection: sqlite3.Connection, events: list[HeartEvent], epoch: str) -> None:
        """Append a record per event, in the transaction that is open."""
        row = connection.execute("SELECT hash FROM audit ORDER BY number DESC LIMIT 1").fetchone()
        head: bytes = row[0] if row else START
        erased = set()
        for number, at_ms, change in events:
            event = cursor_of(epoch, number)
            if connection.execute("SELECT 1 FROM audit WHERE event = ?", (event,)).fetchone():
                continue
            if change.cause == "erase":
                erased.add(change.user_id)
            record = _record(connection, event, at_ms, change)
            text = _encode(record)
            head = _next(head, text)
            connection.execute(
                "INSERT INTO audit (event, person, record, hash) VALUES (?, ?, ?, ?)",
                (event, record.person, text, head),
            )
        for user_id in erased:
            self._forget(connection, user_id)

    async def page(self, after: int, limit: int, user_id: str | None = None) -> list[Entry]:
        """Records with greater numbers, oldest first; of one user, if asked, while its key exists.

        Raises:
            StoreUnavailable: the log cannot be read now.
        """
        return await self._file.ask(lambda connection: list(entries(connection, after, limit, user_id)))

    async def verify(self) -> Verdict:
        """Check the whole chain. Raises as ``page``."""
        return await self._file.ask(verify)

    async def forget(self, user_id: str) -> bool:
        """Delete a person's key.

        Returns:
            Whether there was one. Raises as ``page``.
        """
        return await self._file.ask(lambda connection: self._forget(connection, user_id))

    def _forget(self, connection: sqlite3.Connection, user_id: str) -> bool:
        had_key = connection.execute("DELETE FROM person WHERE user = ?", (user_id,)).rowcount > 0
        self._file.has_secrets_left |= had_key
        return had_key


def entries(
    connection: sqlite3.Connection, after: int = 0, limit: int = -1, user_id: str | None = None
) -> Iterator[Entry]:
    """As ``Audit.page``; ``limit`` -1: all."""
    if user_id is None:
        rows = connection.execute(f"{_ENTRIES}{_IN_ORDER}", {"after": after, "limit": limit})
    else:
        values = {"after": after, "limit": limit, "user": user_id}
        rows = connection.execute(f"{_ENTRIES}{_OF_USER}{_IN_ORDER}", values)
    for number, text, digest, key in rows:
        yield Entry(
            number, text.decode(errors="replace"), digest.hex(), None if key is None else _opened(key, text)
        )


def verify(connection: sqlite3.Connection) -> Verdict:
    """Check the whole chain: numbers without gaps, and every hash."""
    [records] = connection.execute("SELECT count(*) FROM audit").fetchone()
    head, expected = START, 1
    for number, text, digest in connection.execute(_CHAIN):
        following = _next(head, text)
        if number != expected or digest != following:
            return Verdict(records, head.hex(), expected)
        head, expected = following, expected + 1
    return Verdict(records, head.hex(), None)


def _next(head: bytes, text: bytes) -> bytes:
    return hashlib.sha256(head + text).digest()


def _record(connection: sqlite3.Connection, event: str, at_ms: int, change: Change) -> Record:
    person, sealed = _sealed(connection, change)
    return Record(
        event, at_ms, change.delta, change.cause, person, sealed, change.target_id, change.kind,
        change.heart_id,
    )  # fmt: skip


def _sealed(connection: sqlite3.Connection, change: Change) -> tuple[str, str]:
    row = connection.execute("SELECT pseudonym, key FROM person WHERE user = ?", (change.user_id,)).fetchone()
    if row is None and change.cause == "erase":
        # The key went with an earlier event of the same erasure: no new one.
        return "", ""
    if row is None:
        row = token_hex(8), token_bytes(32)
        connection.execute("INSERT INTO person VALUES (?, ?, ?)", (change.user_id, *row))
    nonce = token_bytes(_NONCE_BYTES)
    return row[0], (nonce + AESGCM(row[1]).encrypt(nonce, change.user_id.encode(), None)).hex()


def _opened(key: bytes, text: bytes) -> str | None:
    try:
        sealed = bytes.fromhex(_decode(text).sealed)
        return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None).decode()
    except (InvalidTag, ValueError):
        # Somebody changed the record: what it says is not to be believed; ``verify`` tells.
        return None
