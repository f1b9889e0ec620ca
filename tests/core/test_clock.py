"""Times on the wire."""

from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st

from heartcast.core.clock import rfc3339


@given(st.integers(0, 253_402_300_799_999))
def test_a_wall_time_survives_its_text(wall_ms: int) -> None:
    text = rfc3339(wall_ms)
    parsed = datetime.fromisoformat(text)

    assert round(parsed.timestamp() * 1000) == wall_ms
    assert text.endswith("Z")
