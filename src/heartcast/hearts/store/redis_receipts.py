"""Receipts in Redis: a request that is done once is one script call, however many hearts it has.

A record is JSON under a key of its own, which the server drops when its time is over. It holds
the steps as well, because its outcomes are told from rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from heartcast.backends.redis import Script
from heartcast.hearts.model import HeartKey, Outcome, Receipt, Step
from heartcast.hearts.store.receipts import Record
from heartcast.hearts.store.redis_rows import ADD, ADD_NOTED, REMOVE, REMOVE_NOTED, heart_of

_ONCE = """
local function add(KEYS, ARGV) %s end
local function remove(KEYS, ARGV) %s end
local known = redis.call('GET', KEYS[1])
if known and cjson.decode(known)['until_ms'] >= tonumber(ARGV[1]) then
    return {0, known}
end
local answers = {}
for at = 1, #KEYS / 4 do
    local key, arg = 4 * at - 2, 5 * at
    local names = {KEYS[key], KEYS[key + 1], KEYS[key + 2], KEYS[key + 3], ARGV[4]}
    local values = {ARGV[arg + 2], ARGV[arg + 3], ARGV[arg + 4], ARGV[arg + 5], 'user', ARGV[5]}
    answers[at] = (ARGV[arg + 1] == '1' and add or remove)(names, values)
end
known = ARGV[3] .. cjson.encode(answers) .. '}'
redis.call('SET', KEYS[1], known, 'PX', ARGV[2])
return {1, known}
"""
ONCE = Script(_ONCE % (ADD.text, REMOVE.text))
"""KEYS record, then m, o, u, i of each step; ARGV now, time to keep, the record up to its answers,
the stream of events, time of events, then of each step: 1 to add, user, target, kind, row
-> {1 when it was done now, record}."""
ONCE_NOTED = Script(_ONCE % (ADD_NOTED.text, REMOVE_NOTED.text))
"""The same with an event for each change."""


class _Kept(msgspec.Struct):
    fingerprint: str
    until_ms: int
    steps: list[Step]
    answers: list[tuple[int, str | bool, int, Any]]


_decode = msgspec.json.Decoder(_Kept).decode
_encode = msgspec.json.Encoder().encode


def beginning(receipt: Receipt, steps: Sequence[Step]) -> bytes:
    """A record up to its answers."""
    return b'{"fingerprint":"%s","until_ms":%d,"steps":%s,"answers":' % (
        receipt.fingerprint.hex().encode(),
        receipt.until_ms,
        _encode(steps),
    )


def record_of(text: str, name: bytes) -> Record:
    """The record of this name, as the server keeps it."""
    kept = _decode(text)
    receipt = Receipt(name, bytes.fromhex(kept.fingerprint), kept.until_ms)
    pairs = zip(kept.steps, kept.answers, strict=True)
    return Record(receipt, [_outcome(step.key, *answer) for step, answer in pairs])


def _outcome(key: HeartKey, changed: int, row: str | bool, count: int, version: Any) -> Outcome:
    heart = heart_of(row, key) if isinstance(row, str) else None
    return Outcome(heart, count, int(version), changed == 1)
