"""One typed tree of settings: a TOML file, then ``HEARTCAST_*``, then flags.

A later source overrides single values of an earlier one. ``HEARTCAST_HTTP__PORT=9000``
sets ``http.port``: two underscores step into a table. A key that does not exist, a
value of the wrong type and settings that contradict each other are refused at start,
each with the path of the setting.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from heartcast.api.admission import LimitOptions
from heartcast.api.auth import AuthOptions
from heartcast.cluster.options import ClusterOptions
from heartcast.core.errors import SettingsError
from heartcast.gateway.options import HttpOptions
from heartcast.hearts.options import HeartOptions
from heartcast.push.options import PushOptions
from heartcast.ranking.options import HotOptions, RankingOptions
from heartcast.realtime.options import RealtimeOptions
from heartcast.resilience.options import ResilienceOptions
from heartcast.streams.options import StreamOptions

PREFIX = "HEARTCAST_"


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be chosen. Without any source it is a useful laptop set-up."""

    mode: Literal["dev", "prod"] = "dev"
    """``dev``: on a loopback address callers need no credentials. ``prod``: everyone does."""

    data_dir: str = "heartcast-data"
    """Folder of everything that must survive a restart; made when it is not there."""

    in_memory: bool = False
    """Keep nothing on disk: for tests, benchmarks and a first look."""

    http: HttpOptions = msgspec.field(default_factory=HttpOptions)
    auth: AuthOptions = msgspec.field(default_factory=AuthOptions)
    limits: LimitOptions = msgspec.field(default_factory=LimitOptions)
    resilience: ResilienceOptions = msgspec.field(default_factory=ResilienceOptions)
    hearts: HeartOptions = msgspec.field(default_factory=HeartOptions)
    realtime: RealtimeOptions = msgspec.field(default_factory=RealtimeOptions)
    push: PushOptions = msgspec.field(default_factory=PushOptions)
    cluster: ClusterOptions = msgspec.field(default_factory=ClusterOptions)
    hot: HotOptions = msgspec.field(default_factory=HotOptions)
    ranking: RankingOptions = msgspec.field(default_factory=RankingOptions)
    streams: StreamOptions = msgspec.field(default_factory=StreamOptions)

    def __post_init__(self) -> None:
        if self.mode == "prod" and not self.auth.has_keys:
            raise ValueError(
                "auth: prod mode needs auth.jwt_secret, auth.jwt_public_keys or auth.jwks_url (users), "
                "auth.api_keys (servers) or several of them"
            )
        if not self.is_loopback and not self.auth.has_keys:
            raise ValueError(
                f"http.host: {self.http.host} is reachable from outside; "
                "set auth.jwt_secret, auth.jwks_url or auth.api_keys first, or listen on 127.0.0.1"
            )

        self._check_signing()

    def _check_signing(self) -> None:
        """What is signed with a key that only one process knows is worth nothing in the next."""
        if self.mode != "prod" or self.auth.signing_keys or self.auth.jwt_secret:
            return
        if self.hearts.visitor_kinds:
            raise ValueError(
                "auth.signing_keys: or auth.jwt_secret must be set, or no visitor is known after a restart"
            )
        if self.cluster.redis_url:
            raise ValueError(
                "auth.signing_keys: or auth.jwt_secret must be set, or processes refuse each other's cursors"
            )

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the port."""
        if self.http.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.http.host).is_loopback
        except ValueError:
            return False

    @property
    def limits_on(self) -> bool:
        """Whether clients are limited; not in the open mode unless it is asked for."""
        return not self.is_open if self.limits.is_on is None else self.limits.is_on

    @property
    def is_open(self) -> bool:
        """Whether callers without credentials are trusted."""
        return self.mode == "dev" and self.is_loopback


def load(
    *,
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> Settings:
    """Read the settings.

    Args:
        config: TOML file; None: no file is read.
        environ: Where ``HEARTCAST_*`` variables are looked for; None: nowhere.
        flags: Values by dotted path, such as ``{"http.port": 9000}``; None values are skipped.

    Raises:
        SettingsError: a source cannot be read, or what it says is wrong.
    """
    tree = _from_file(config) if config is not None else {}
    for path, value in _from_environ(environ or {}):
        _set(tree, path, value)
    for dotted, value in (flags or {}).items():
        if value is not None:
            _set(tree, dotted.split("."), value)
    try:
        # strict=False: every variable of the environment is text, numbers included.
        return msgspec.convert(tree, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise _explained(str(error)) from None


def _from_file(config: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(config.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read {config}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{config} is not valid TOML: {error}") from error


def _from_environ(environ: Mapping[str, str]) -> list[tuple[list[str], object]]:
    found: list[tuple[list[str], object]] = []
    for name, text in sorted(environ.items()):
        if name.startswith(PREFIX) and name != PREFIX + "DATA":  # HEARTCAST_DATA belongs to the tests
            found.append((name[len(PREFIX) :].lower().split("__"), _literal(text)))
    return found


def _literal(text: str) -> object:
    """Lists and tables are written as in TOML, everything else as it stands."""
    if not text.startswith(("[", "{")):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _set(tree: dict[str, Any], path: list[str], value: object) -> None:
    *tables, name = path
    for table in tables:
        below = tree.setdefault(table, {})
        if not isinstance(below, dict):
            raise SettingsError("is a single value, not a table", path=".".join(path[:-1]))
        tree = below
    tree[name] = value


_AT = re.compile(r" - at `\$\.?([^`]*)`$")
_UNKNOWN = re.compile(r"^Object contains unknown field `(.*)`$")
_NAMED = re.compile(r"^([a-z_][a-z_.]*): (.*)$", re.DOTALL)


def _explained(message: str) -> SettingsError:
    at = _AT.search(message)
    path = at[1] if at else ""
    said = message[: at.start()] if at else message
    if unknown := _UNKNOWN.match(said):
        return SettingsError("there is no such setting", path=".".join(filter(None, [path, unknown[1]])))
    # Checks across fields raise "field: must be …" and msgspec names the table.
    if named := _NAMED.match(said):
        return SettingsError(named[2], path=".".join(filter(None, [path, named[1]])))
    return SettingsError(said[:1].lower() + said[1:], path=path)
