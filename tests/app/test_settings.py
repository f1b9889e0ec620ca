"""Settings: three sources in order, and every mistake named by its path."""

from pathlib import Path

import pytest

from heartcast.app.secret import with_secret
from heartcast.app.settings import Settings, load
from heartcast.core.errors import SettingsError

SECRET = "s" * 32


def test_without_any_source_it_is_a_laptop_set_up() -> None:
    settings = load()

    assert settings.is_open
    assert settings.http.port == 8080
    assert not settings.in_memory


def test_flags_override_the_environment_and_the_environment_the_file(tmp_path: Path) -> None:
    config = tmp_path / "heartcast.toml"
    config.write_text('data_dir = "a"\n[http]\nport = 1\nhost = "::1"\n')
    settings = load(
        config=config,
        environ={"HEARTCAST_HTTP__PORT": "2", "HEARTCAST_DATA_DIR": "b", "PATH": "/bin"},
        flags={"http.port": 3, "data_dir": None},
    )

    assert settings.http.port == 3
    assert settings.data_dir == "b"
    assert settings.http.host == "::1"


def test_lists_in_the_environment_are_written_as_in_toml() -> None:
    settings = load(environ={"HEARTCAST_AUTH__API_KEYS": '["0123456789abcdef"]'})

    assert settings.auth.api_keys == ["0123456789abcdef"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hots = 1", "hots: there is no such setting"),
        ("[http]\nprot = 1", "http.prot: there is no such setting"),
        ("[http]\nport = 'eighty'", "http.port: expected"),
        ("[http]\nport = 70000", "http.port"),
        ("mode = 'test'", "mode"),
        ("http = 5", "http: expected"),
        ("[auth]\njwt_secret = 'short'", "auth.jwt_secret: must be at least 32 bytes"),
        ("mode = 'prod'", "auth: prod mode needs"),
        ("[http]\nhost = '0.0.0.0'", "http.host: 0.0.0.0 is reachable from outside"),
        ("not toml", "not valid TOML"),
    ],
)
def test_a_mistake_in_the_file_is_named_by_its_path(tmp_path: Path, text: str, said: str) -> None:
    config = tmp_path / "heartcast.toml"
    config.write_text(text)

    with pytest.raises(SettingsError) as caught:
        load(config=config)
    assert said in caught.value.detail
    assert "\n" not in caught.value.detail.strip()


def test_a_file_that_is_not_there_is_one_plain_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot read .*: No such file"):
        load(config=tmp_path / "none.toml")


def test_a_value_where_a_table_belongs_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="mode: is a single value, not a table"):
        load(environ={"HEARTCAST_MODE": "dev", "HEARTCAST_MODE__X": "1"})


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("example.org", False),
    ],
)
def test_only_loopback_addresses_are_open_without_keys(host: str, is_loopback: bool) -> None:
    settings = load(flags={"http.host": host, "auth.jwt_secret": SECRET})

    assert settings.is_open == is_loopback


@pytest.mark.parametrize(
    ("flag", "value"), [("hearts.visitor_kinds", ["heart"]), ("cluster.redis_url", "redis://localhost")]
)
def test_what_must_be_known_elsewhere_needs_a_key_that_is_known_there(flag: str, value: object) -> None:
    keys = {"mode": "prod", "auth.api_keys": ["a key of the back end"], flag: value}
    with pytest.raises(SettingsError, match="signing_keys") as caught:
        load(flags=keys)
    assert caught.value.path == "auth.signing_keys"
    for name, secret in (("auth.signing_keys", ["s" * 32]), ("auth.jwt_secret", "s" * 32)):
        assert load(flags={**keys, name: secret}).mode == "prod"


def test_the_dev_secret_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    settings = Settings(data_dir=str(tmp_path / "data"))
    first, again = with_secret(settings), with_secret(settings)

    assert first.auth.jwt_secret == again.auth.jwt_secret
    assert len(first.auth.jwt_secret) >= 32
    assert (tmp_path / "data" / "dev-secret").stat().st_mode & 0o777 == 0o600


def test_in_memory_every_process_makes_its_own_secret(tmp_path: Path) -> None:
    settings = Settings(data_dir=str(tmp_path / "data"), in_memory=True)

    assert with_secret(settings).auth.jwt_secret != with_secret(settings).auth.jwt_secret
    assert not (tmp_path / "data").exists()


def test_a_data_folder_that_is_a_file_is_one_plain_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")

    with pytest.raises(SettingsError, match="data_dir"):
        with_secret(Settings(data_dir=str(tmp_path / "file")))
