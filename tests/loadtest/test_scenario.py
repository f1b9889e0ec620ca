"""Scenario files."""

from __future__ import annotations

import pytest

from heartcast.core.errors import SettingsError
from heartcast.loadtest.scenario import KINDS, Push, from_file, of


def test_a_file_gives_what_it_says_and_the_kinds_defaults_for_the_rest(tmp_path) -> None:
    file = tmp_path / "s.toml"
    file.write_text('scenario = "push"\nusers = 7\n[load]\nrate_per_s = 12\n[bounds]\np99_ms = 50\n')
    scenario = from_file(file)
    assert isinstance(scenario, Push)
    assert (scenario.users, scenario.load.rate_per_s, scenario.bounds.p99_ms) == (7, 12.0, 50.0)
    assert scenario.load.seconds == Push().load.seconds


def test_a_load_table_keeps_the_other_defaults_of_its_kind() -> None:
    assert of("soak", {"load": {"rate_per_s": 5.0}}).load.seconds == 600.0


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_runs_without_a_file(kind) -> None:
    assert of(kind, {}).name == kind


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("users = 3", "scenario must be one of push, fanout, hearts, mixed, storm, slow, soak, got None"),
        ('scenario = "pull"', "got 'pull'"),
        ('scenario = "push"\nuserz = 3', "userz: there is no such key"),
        ('scenario = "push"\n[load]\nrate = 3', "load.rate: there is no such key"),
        ('scenario = "push"\nusers = "many"', "users: expected `int`, got `str`"),
        ('scenario = "push"\nusers = 0', "users: must be >= 1"),
        ('scenario = "push"\n[load]\npeak_per_s = 9', "load.peak_per_s: has no meaning with shape"),
        ('scenario = "push"\n[load]\nwarmup_s = 99', "load.warmup_s: must be >= 0 and shorter than seconds"),
        ('scenario = "push"\noffline_share = 1.0', "churn_per_s: nobody is connected"),
        ('scenario = "storm"\nat_s = 99', "at_s: must lie within load.seconds"),
        ('scenario = "slow"\nstall_s = 99', "stall_s: must end within load.seconds"),
        ('scenario = "fanout"\nchannels = 9\nsubscribers = 3', "channels: must be 1 to subscribers"),
        ('scenario = "push"\nload = 3', "load: expected"),
        ("scenario = ", "is not valid TOML"),
    ],
)
def test_a_file_that_is_wrong_is_refused_in_one_sentence(tmp_path, text, sentence) -> None:
    file = tmp_path / "s.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as error:
        from_file(file)
    assert sentence in error.value.detail
    assert "\n" not in error.value.detail


def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        from_file(tmp_path / "none.toml")


def test_an_event_stream_that_is_to_acknowledge_is_refused() -> None:
    with pytest.raises(SettingsError, match="acknowledge: nothing goes back on an event stream"):
        of("push", {"sessions": "sse"})


def test_sessions_that_nobody_speaks_are_refused_with_their_place() -> None:
    with pytest.raises(SettingsError, match="sessions: invalid enum value 'mqtt'"):
        of("fanout", {"sessions": "mqtt"})


def test_what_only_speaks_json_takes_no_other_sessions() -> None:
    with pytest.raises(SettingsError, match="sessions: there is no such key"):
        of("hearts", {"sessions": "sse"})
