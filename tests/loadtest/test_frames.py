"""Reading a server's frames."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heartcast.loadtest.sockets import frames
from heartcast.wire.frames import PING, TEXT, frame


@given(
    sizes=st.lists(st.integers(0, 300) | st.integers(65_530, 65_540), max_size=5),
    cut=st.integers(0, 400_000),
)
def test_frames_cut_anywhere_come_out_whole(sizes, cut) -> None:
    payloads = [bytes([65 + n]) * size for n, size in enumerate(sizes)]
    data = b"".join(frame(payload, TEXT) for payload in payloads)
    cut = min(cut, len(data))
    first, stop = frames(data[:cut])
    second, end = frames(data[stop:])
    assert [payload for _, payload in first + second] == payloads
    assert stop + end == len(data)


def test_the_kind_of_a_frame_comes_with_it() -> None:
    found, _ = frames(frame(b"x", TEXT) + frame(b"", PING))
    assert found == [(0x81, b"x"), (0x89, b"")]


def test_a_masked_frame_from_a_server_is_refused() -> None:
    with pytest.raises(ValueError, match="masked"):
        frames(b"\x81\x81\0\0\0\0x")


def test_a_length_that_no_message_has_is_refused() -> None:
    with pytest.raises(ValueError, match="bytes"):
        frames(b"\x81\x7f" + (1 << 40).to_bytes(8, "big") + b"abc")
