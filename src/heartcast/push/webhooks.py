"""Who gets posted to: the endpoints, and which of them a push is for.

An endpoint is for one user, for some categories, or for everything. A push that asks for
``webhook`` goes to exactly one: the one that says most about it, and of several such the
first by name. ``webhook:crm`` goes to that one, whatever it is for.

Endpoints of the settings are there at start. Those made through the API are notes in the
journal; a name is one or the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import msgspec

from heartcast.backends.post import check_url
from heartcast.backends.webhook import MAX_SECRETS, key_of
from heartcast.core.errors import Conflict, InvalidInput, NotFound, Overloaded, SettingsError
from heartcast.core.names import check_id, user_text
from heartcast.push.journal import Note
from heartcast.push.model import Push
from heartcast.push.routes.options import Webhook, WebhookOptions

KIND = "w:"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Webhook).decode


class Endpoint(NamedTuple):
    """An endpoint, ready to be posted to."""

    name: str
    webhook: Webhook
    user: str
    """Canonical text of its user; "": everyone's."""
    keys: tuple[bytes, ...]
    is_fixed: bool
    """Whether it is one of the settings'."""


def endpoint_of(name: str, webhook: Webhook, *, allow_private: bool, is_fixed: bool = False) -> Endpoint:
    """Check an endpoint and make it ready.

    Raises:
        InvalidInput: URL, secret, category or user is wrong; the pointer says which.
    """
    check_id(name)
    if ":" in name or "/" in name:
        raise InvalidInput("must be without colon and slash", code="invalid_id")
    check_url(webhook.url, allow_private, "/url")
    if not 1 <= len(webhook.secrets) <= MAX_SECRETS:
        raise InvalidInput(f"must hold 1 to {MAX_SECRETS} secrets", pointer="/secrets", code="webhook_secret")
    keys = tuple(key_of(secret, f"/secrets/{index}") for index, secret in enumerate(webhook.secrets))
    for index, category in enumerate(webhook.categories):
        check_id(category, f"/categories/{index}")
    user = "" if webhook.user_id is None else user_text(webhook.user_id)
    return Endpoint(name, webhook, user, keys, is_fixed)


class WebhookBook:
    """All endpoints.

    Raises:
        SettingsError: one of the settings' is wrong.
    """

    def __init__(self, options: WebhookOptions) -> None:
        self._options = options
        self._endpoints: dict[str, Endpoint] = {}
        self.on_change: Callable[[str], None] = lambda name: None
        """Told of each endpoint that is another now, or gone."""
        for name, webhook in sorted(options.endpoints.items()):
            try:
                self._endpoints[name] = endpoint_of(
                    name, webhook, allow_private=options.allow_private, is_fixed=True
                )
            except InvalidInput as error:
                path = f"push.webhooks.endpoints.{name}{error.pointer.replace('/', '.')}"
                raise SettingsError(error.detail, path=path) from error

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(sorted(self._endpoints.values()))

    def find(self, name: str) -> Endpoint | None:
        """The endpoint of this name; None: there is none."""
        return self._endpoints.get(name)

    def get(self, name: str) -> Endpoint:
        """The endpoint of this name.

        Raises:
            NotFound: there is none (code ``unknown_webhook``).
        """
        endpoint = self._endpoints.get(name)
        if endpoint is None:
            raise NotFound(f"there is no webhook {name[:100]!r}", code="unknown_webhook")
        return endpoint

    def ready(self, name: str, webhook: Webhook) -> Endpoint:
        """An endpoint that may be put under this name.

        Raises:
            InvalidInput: it is wrong.
            Conflict: the settings have this name (code ``webhook_fixed``).
            Overloaded: there are as many as may be (code ``webhooks_full``).
        """
        self.check_changeable(name)
        if name not in self._endpoints and len(self._endpoints) >= self._options.max_endpoints:
            raise Overloaded("there are as many webhooks as may be", retry_after_s=60, code="webhooks_full")
        return endpoint_of(name, webhook, allow_private=self._options.allow_private)

    def check_changeable(self, name: str) -> None:
        """Whether this name may be put or taken away.

        Raises:
            Conflict: the settings have it (code ``webhook_fixed``).
        """
        if (found := self._endpoints.get(name)) and found.is_fixed:
            raise Conflict("this webhook is one of the settings'; change it there", code="webhook_fixed")

    def put(self, name: str, endpoint: Endpoint | None) -> None:
        """What this name stands for from now on; None: nothing."""
        if endpoint is None:
            self._endpoints.pop(name, None)
        else:
            self._endpoints[name] = endpoint
        self.on_change(name)

    def disable(self, name: str) -> Note | None:
        """Post nothing more there; returns what the journal must keep, None for the settings' own."""
        endpoint = self._endpoints.get(name)
        if endpoint is None or endpoint.webhook.disabled:
            return None
        webhook = msgspec.structs.replace(endpoint.webhook, disabled=True)
        self.put(name, endpoint._replace(webhook=webhook))
        return None if endpoint.is_fixed else webhook_note(name, webhook)

    def of_user(self, user: str) -> list[str]:
        """Names of the endpoints that are for this user alone and can be changed, sorted."""
        return [one.name for one in self if one.user == user and not one.is_fixed]

    def forget_user(self, user: str) -> list[Note]:
        """Take a user's endpoints away; returns what the journal must forget."""
        names = self.of_user(user)
        for name in names:
            self.put(name, None)
        return [webhook_note(name, None) for name in names]

    def choose(self, push: Push) -> Endpoint | None:
        """The endpoint that this push is for; None: there is none that may be posted to."""
        best, most = None, -1
        for endpoint in self._endpoints.values():
            says = _says(endpoint, push)
            if says > most or (says == most and best is not None and endpoint.name < best.name):
                best, most = endpoint, says
        return best if most >= 0 else None

    def restore(self, notes: Iterable[Note]) -> None:
        """Endpoints that an earlier process was given. What the settings name is theirs now."""
        for note in notes:
            name = note.key.removeprefix(KIND)
            if name in self._options.endpoints:
                continue
            webhook = _decode(note.value or b"")
            try:
                self._endpoints[name] = endpoint_of(name, webhook, allow_private=self._options.allow_private)
            except InvalidInput:
                # Allowed when it was made, not any more: it stays, to be seen and changed.
                off = msgspec.structs.replace(webhook, disabled=True)
                keys = tuple(key_of(secret) for secret in webhook.secrets)
                self._endpoints[name] = Endpoint(name, off, "", keys, is_fixed=False)

    def learn(self, note: Note) -> None:
        """Another node was given an endpoint, or had one taken away."""
        name = note.key.removeprefix(KIND)
        if note.value is not None:
            self.restore([note])
            self.on_change(name)
        elif (found := self._endpoints.get(name)) is not None and not found.is_fixed:
            self.put(name, None)


def webhook_note(name: str, webhook: Webhook | None) -> Note:
    """The endpoint as it is kept; None: there is none any more."""
    return Note(KIND + name, None if webhook is None else _encode(webhook))


def _says(endpoint: Endpoint, push: Push) -> int:
    """How much an endpoint says about a push; below 0: it is not for it."""
    webhook = endpoint.webhook
    if webhook.disabled or (endpoint.user and endpoint.user != push.user):
        return -1
    if webhook.categories and push.asked.category not in webhook.categories:
        return -1
    return 2 * bool(endpoint.user) + bool(webhook.categories)
