"""Frames: whatever way they arrive, the same messages come out, and nothing raises."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heartcast.wire.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    FrameReader,
    close_code,
    close_frame,
    frame,
    mask,
    masked_frame,
)

KEY = b"\x01\x80\xff\x3c"
LIMIT = 100_000

keys = st.binary(min_size=4, max_size=4)
controls = st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125))
messages = st.tuples(
    st.sampled_from([TEXT, BINARY]), st.lists(st.binary(max_size=400), min_size=1, max_size=4)
)


def in_fragments(opcode: int, parts: list[bytes], key: bytes) -> list[bytes]:
    last = len(parts) - 1
    return [
        masked_frame(part, opcode if index == 0 else CONTINUATION, key, is_last=index == last)
        for index, part in enumerate(parts)
    ]


def fed(reader: FrameReader, wire: bytes, cuts: list[int]) -> list[tuple[int, bytes]]:
    edges = [0, *sorted(cut % (len(wire) + 1) for cut in cuts), len(wire)]
    return [message for start, end in itertools.pairwise(edges) for message in reader.feed(wire[start:end])]


@given(
    st.lists(st.tuples(messages, st.lists(controls, max_size=2)), max_size=5),
    st.lists(st.integers(0, 10_000), max_size=20),
    keys,
)
def test_messages_survive_any_fragmenting_cutting_and_interleaved_pings(
    sent: list[tuple[tuple[int, list[bytes]], list[tuple[int, bytes]]]], cuts: list[int], key: bytes
) -> None:
    wire, expected = b"", []
    for (opcode, parts), between in sent:
        first, *rest = in_fragments(opcode, parts, key)
        # Control frames stand between the fragments: they come out before the message when
        # it has more than one, after it when it has not.
        wire += (
            first + b"".join(masked_frame(payload, kind, key) for kind, payload in between) + b"".join(rest)
        )
        whole = (opcode, b"".join(parts))
        expected += [*between, whole] if rest else [whole, *between]
    reader = FrameReader(LIMIT)

    assert fed(reader, wire, cuts) == expected
    assert reader.error is None


@given(st.lists(st.binary(max_size=300), max_size=10))
def test_any_bytes_are_read_without_raising_and_nothing_is_read_after_an_error(chunks: list[bytes]) -> None:
    reader = FrameReader(1_000)
    for chunk in chunks:
        was_broken = reader.error is not None
        got = reader.feed(chunk)
        assert not (was_broken and got)
        assert all(len(payload) <= 1_000 for _, payload in got)


@given(st.binary(max_size=70_000), keys)
def test_masking_twice_gives_the_payload_back(payload: bytes, key: bytes) -> None:
    assert mask(mask(payload, key), key) == payload
    assert mask(payload, key) == bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))


VIOLATIONS = {
    "an unmasked frame": (frame(b"hello"), 1002),
    "an unmasked ping": (frame(b"", PING), 1002),
    "a reserved bit": (b"\xc1\x80" + KEY, 1002),
    "an unknown data opcode": (b"\x83\x80" + KEY, 1002),
    "an unknown control opcode": (b"\x8b\x80" + KEY, 1002),
    "a fragmented ping": (b"\x09\x80" + KEY, 1002),
    "a ping of 126 bytes": (b"\x89\xfe\x00\x7e" + KEY, 1002),
    "a continuation of nothing": (masked_frame(b"x", CONTINUATION, KEY), 1002),
    "a new message inside another": (
        masked_frame(b"a", TEXT, KEY, is_last=False) + masked_frame(b"b", TEXT, KEY),
        1002,
    ),
    "a short length in 16 bits": (b"\x81\xfe\x00\x05" + KEY + b"xxxxx", 1002),
    "a short length in 64 bits": (b"\x81\xff" + (1_000).to_bytes(8, "big") + KEY, 1002),
    "a frame beyond the limit": (b"\x81\xff" + (LIMIT + 1).to_bytes(8, "big") + KEY, 1009),
    "a length with the top bit set": (b"\x81\xff" + b"\xff" * 8 + KEY, 1009),
    "fragments beyond the limit": (
        masked_frame(b"x" * LIMIT, TEXT, KEY, is_last=False) + masked_frame(b"y", CONTINUATION, KEY),
        1009,
    ),
}


@pytest.mark.parametrize(("wire", "code"), VIOLATIONS.values(), ids=VIOLATIONS.keys())
def test_a_client_that_breaks_the_protocol_is_told_with_which_code(wire: bytes, code: int) -> None:
    reader = FrameReader(LIMIT)
    before = reader.feed(masked_frame(b"first", TEXT, KEY) + wire)

    assert before[0] == (TEXT, b"first")
    assert reader.error is not None
    assert reader.error[0] == code


def test_a_frame_sent_byte_by_byte_is_kept_not_copied_each_time() -> None:
    reader = FrameReader(LIMIT)
    wire = masked_frame(b"z" * 90_000, BINARY, KEY)
    got = [message for index in range(len(wire)) for message in reader.feed(wire[index : index + 1])]

    assert got == [(BINARY, b"z" * 90_000)]


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_a_server_frame_has_the_shortest_length(size: int) -> None:
    wire = frame(b"p" * size)
    head = 2 if size < 126 else 4 if size < 65_536 else 10

    assert len(wire) == head + size
    assert wire[0] == 0x81
    assert wire[1] & 0x80 == 0


def test_a_long_close_reason_is_cut_at_a_character() -> None:
    wire = close_frame(3501, "ü" * 100)

    assert len(wire) <= 127
    assert wire[0] == 0x80 | CLOSE
    assert wire[4:].decode().strip("ü") == ""


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", 1005),
        (b"\x03", None),
        (b"\x03\xe8", 1000),
        (b"\x03\xed", None),
        (b"\x03\xee", None),
        (b"\x0b\xb8bye", 3000),
        (b"\x00\x00", None),
        (b"\x13\x88", None),
    ],
)
def test_only_allowed_close_codes_are_taken(payload: bytes, code: int | None) -> None:
    assert close_code(payload) == code
