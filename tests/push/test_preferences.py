"""Quiet hours against real clocks: midnight, the nights in which they change, three zones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heartcast.core.errors import InvalidInput
from heartcast.push.preferences import Frequency, Preferences, Quiet, QuietHours, Window, wishes_of


def quiet(zone: str, *windows: tuple[str, str], days: list[Any] | None = None) -> Quiet:
    hours = QuietHours(zone, [Window(start, end, days) for start, end in windows])
    found = wishes_of(Preferences(quiet_hours=hours)).quiet
    assert found is not None
    return found


def utc(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("zone", "window", "now", "until"),
    [
        # An ordinary night, over midnight, from both sides of it.
        ("Europe/Berlin", ("22:00", "07:00"), "2026-01-15T20:59:59", None),
        ("Europe/Berlin", ("22:00", "07:00"), "2026-01-15T21:00:00", "2026-01-16T06:00:00"),
        ("Europe/Berlin", ("22:00", "07:00"), "2026-01-16T05:59:59", "2026-01-16T06:00:00"),
        ("Europe/Berlin", ("22:00", "07:00"), "2026-01-16T06:00:00", None),
        # Within a day.
        ("Europe/Berlin", ("12:00", "13:30"), "2026-07-01T11:00:00", "2026-07-01T11:30:00"),
        # A whole day.
        ("UTC", ("00:00", "00:00"), "2026-07-01T11:00:00", None),
        # Berlin, 29 March 2026: 02:00 becomes 03:00. The night is an hour shorter.
        ("Europe/Berlin", ("22:00", "07:00"), "2026-03-28T23:00:00", "2026-03-29T05:00:00"),
        # A window that ends in the hour that does not exist ends when clocks show half past three.
        ("Europe/Berlin", ("22:00", "02:30"), "2026-03-28T23:00:00", "2026-03-29T01:30:00"),
        # One that begins in it begins at half past three.
        ("Europe/Berlin", ("02:30", "05:00"), "2026-03-29T01:29:59", None),
        ("Europe/Berlin", ("02:30", "05:00"), "2026-03-29T01:30:00", "2026-03-29T03:00:00"),
        # Berlin, 25 October 2026: 03:00 becomes 02:00. Both of 02:30 are quiet.
        ("Europe/Berlin", ("22:00", "02:30"), "2026-10-25T00:45:00", "2026-10-25T01:30:00"),
        ("Europe/Berlin", ("02:30", "05:00"), "2026-10-25T00:30:00", "2026-10-25T04:00:00"),
        # New York, 8 March and 1 November 2026.
        ("America/New_York", ("22:00", "07:00"), "2026-03-08T04:00:00", "2026-03-08T11:00:00"),
        ("America/New_York", ("22:00", "02:30"), "2026-03-08T06:00:00", "2026-03-08T07:30:00"),
        ("America/New_York", ("01:30", "03:00"), "2026-11-01T05:30:00", "2026-11-01T08:00:00"),
        # Lord Howe Island moves by half an hour: 5 April 2026, 02:00 becomes 01:30.
        ("Australia/Lord_Howe", ("22:00", "01:45"), "2026-04-04T14:50:00", "2026-04-04T15:15:00"),
        ("Australia/Lord_Howe", ("22:00", "07:00"), "2026-10-03T14:00:00", "2026-10-03T20:00:00"),
    ],
)  # fmt: skip
def test_quiet_ends_when_the_wall_says_so(
    zone: str, window: tuple[str, str], now: str, until: str | None
) -> None:
    if window == ("00:00", "00:00"):
        # A day that is quiet every day has no end within a week: it is given the week.
        found = quiet(zone, window).until_ms(utc(now))
        assert found is not None
        assert timedelta(days=6) < timedelta(milliseconds=found - utc(now)) <= timedelta(days=7)
        return
    assert quiet(zone, window).until_ms(utc(now)) == (utc(until) if until else None)


def test_windows_belong_to_the_day_on_which_they_begin() -> None:
    weekend = quiet("UTC", ("22:00", "10:00"), days=["fri", "sat"])
    assert weekend.until_ms(utc("2026-01-16T23:00:00")) == utc("2026-01-17T10:00:00")  # Friday
    assert weekend.until_ms(utc("2026-01-18T09:00:00")) == utc("2026-01-18T10:00:00")  # from Saturday
    assert weekend.until_ms(utc("2026-01-18T23:00:00")) is None  # Sunday


def test_windows_that_meet_are_one() -> None:
    both = quiet("UTC", ("22:00", "07:00"), ("07:00", "09:00"), ("08:30", "09:30"))
    assert both.until_ms(utc("2026-01-15T23:00:00")) == utc("2026-01-16T09:30:00")


@given(
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
    st.integers(0, 23), st.integers(0, 23),
    st.integers(utc("2026-01-01T00:00:00"), utc("2026-12-31T00:00:00")),
)  # fmt: skip
def test_quiet_agrees_with_what_the_wall_clock_shows_except_where_it_repeats_itself(
    zone: str, start: int, end: int, now_ms: int
) -> None:
    if start == end:
        return
    local = datetime.fromtimestamp(now_ms / 1000, ZoneInfo(zone))
    changes = any(
        (local + timedelta(hours=h)).utcoffset() != (local - timedelta(hours=h)).utcoffset() for h in (3, 12)
    )
    shown = local.hour
    inside = start <= shown < end if start < end else shown >= start or shown < end
    found = quiet(zone, (f"{start:02}:00", f"{end:02}:00")).until_ms(now_ms)
    if not changes:
        assert (found is not None) == inside
    if found is not None:
        ends = datetime.fromtimestamp(found / 1000, ZoneInfo(zone))
        assert found > now_ms
        assert changes or (ends.hour, ends.minute) == (end, 0)


@pytest.mark.parametrize(
    ("frequency", "pointer"),
    [
        (Frequency(), "/frequency"),
        (Frequency(per_hour=0), "/frequency/per_hour"),
        (Frequency(per_hour=5, per_day=1001), "/frequency/per_day"),
    ],
)
def test_a_frequency_that_says_nothing_is_refused_with_a_pointer(frequency: Frequency, pointer: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        wishes_of(Preferences(frequency=frequency))
    assert caught.value.pointer == pointer


@pytest.mark.parametrize(
    ("hours", "pointer", "code"),
    [
        (QuietHours("Europe/Atlantis", [Window("22:00", "07:00")]), "/quiet_hours/zone", "unknown_zone"),
        (QuietHours("../etc/passwd", [Window("22:00", "07:00")]), "/quiet_hours/zone", "unknown_zone"),
        (QuietHours("Europe", [Window("22:00", "07:00")]), "/quiet_hours/zone", "unknown_zone"),
        (QuietHours("", [Window("22:00", "07:00")]), "/quiet_hours/zone", "unknown_zone"),
        (QuietHours("UTC", []), "/quiet_hours/windows", "invalid_input"),
        (QuietHours("UTC", [Window("24:00", "07:00")]), "/quiet_hours/windows/0/start", "invalid_input"),
        (QuietHours("UTC", [Window("22:00", "7:00")]), "/quiet_hours/windows/0/end", "invalid_input"),
        (QuietHours("UTC", [Window("22:00", "07:00", [])]), "/quiet_hours/windows/0/days", "invalid_input"),
    ],
)
def test_preferences_that_mean_nothing_are_refused_with_a_pointer(
    hours: QuietHours, pointer: str, code: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        wishes_of(Preferences(quiet_hours=hours))
    assert (caught.value.pointer, caught.value.code) == (pointer, code)
