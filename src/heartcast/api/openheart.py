"""The OpenHeart protocol, for blogs that speak it, and a form for readers without JavaScript.

    POST  /oh/{target}    body: an emoji            the counts, by emoji
    POST  /oh/{target}    a form's field ``heart``  back to its field ``back``, or to the page
    GET   /oh/{target}                              the counts, by emoji

Whoever sends an emoji says nothing of who it is. A browser with a signed name is that visitor;
any other is a guest, known by a keyed hash of address and browser: a second heart of the same
guest is the first one, as everywhere here, and nobody's address is kept.
"""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import msgspec

from heartcast.api.auth.signing import Signer
from heartcast.api.cors import Origins
from heartcast.api.heart_access import check_may_heart
from heartcast.api.heart_judging import Judging
from heartcast.api.route import Answer, Call, Identity, Route
from heartcast.core.errors import InvalidInput
from heartcast.core.names import check_id
from heartcast.hearts.model import Count, HeartKey, Outcome
from heartcast.hearts.options import plain_emoji
from heartcast.hearts.service import HeartService
from heartcast.hearts.store.awaiting import result_of

_PATH = "/oh/{target}"
_MAX_BODY_BYTES = 1024
_FORM = b"application/x-www-form-urlencoded"
_encode = msgspec.json.Encoder().encode


class OpenHeart:
    """The handlers.

    Args:
        kinds: Kinds by emoji, as they are shown.
        guests: Makes names of guests; its purpose should be guests.
        judging: Says which hearts are shadowed; None: none.
        origins: Pages that a form may send its reader back to.
    """

    def __init__(
        self,
        service: HeartService,
        kinds: dict[str, str],
        *,
        guests: Signer,
        judging: Judging | None,
        origins: Origins,
    ) -> None:
        self._service = service
        self._shown = kinds
        self._kinds = {plain_emoji(emoji): kind for emoji, kind in kinds.items()}
        self._guests = guests
        self._judging = judging
        self._origins = origins

    async def give(self, call: Call) -> Answer:
        target_id = check_id(call.params["target"])
        is_form = (call.header(b"content-type") or b"").partition(b";")[0].strip().lower() == _FORM
        sent = _text(call.body)
        form = parse_qs(sent) if is_form else {}
        kind = self._kind(form.get("heart", [""])[0] if is_form else sent)
        if call.identity.user is None:
            call.identity = Identity(self._guest(call), is_visitor=True)
        user = call.identity.user
        assert user is not None
        check_may_heart(call.identity, user, kind, self._kinds.values())
        key = HeartKey(target_id, user, kind)
        given: list[Outcome] = await result_of(
            lambda done: (
                self._service.add_shadowed(key, done)
                if self._judging is not None and self._judging.shadows(call, key)
                else self._service.add((key,), done)
            )
        )
        if is_form:
            return self._back(call, form.get("back", [""])[0])
        return await self._told(target_id, {kind: given[0].count})

    async def counts(self, call: Call) -> Answer:
        return await self._told(check_id(call.params["target"]), {})

    def _kind(self, text: str) -> str:
        kind = self._kinds.get(plain_emoji(text.strip()))
        if kind is None:
            known = " ".join(self._shown)
            raise InvalidInput(f"must be one of: {known}", code="unknown_emoji")
        return kind

    def _guest(self, call: Call) -> str:
        browser = (call.header(b"user-agent") or b"").decode("latin-1")
        return "guest-" + self._guests.sign(f"{call.peer}\n{browser}")

    async def _told(self, target_id: str, own: dict[str, int]) -> Answer:
        """Counts by emoji, those above 0; ``own`` is what the giver was told of its kind."""
        told: dict[str, int] = {}
        for emoji, kind in self._shown.items():
            [count] = await self._count(target_id, kind)
            hearts = max(count.count, own.get(kind, 0))
            if hearts:
                told[emoji] = hearts
        return Answer(200, _encode(told), ((b"cache-control", b"no-cache"),))

    async def _count(self, target_id: str, kind: str) -> list[Count]:
        return await result_of(lambda done: self._service.counts([target_id], kind, done))

    def _back(self, call: Call, wanted: str) -> Answer:
        """To the page that the form is on, if it is one of those that may use us."""
        # Browsers tell another origin no more of the page than its origin, so a form may say it.
        page = wanted or (call.header(b"referer") or b"").decode("latin-1")
        origin = _origin(page).encode()
        is_ours = origin.partition(b"://")[2] == call.header(b"host")
        if origin and (is_ours or self._origins.allows(origin)):
            return Answer(303, b"", ((b"location", page.encode()),), b"")
        return Answer(204, b"", (), b"")


def _text(body: bytes) -> str:
    try:
        return body[:_MAX_BODY_BYTES].decode()
    except UnicodeDecodeError:
        raise InvalidInput("the body must be an emoji in UTF-8", code="unknown_emoji") from None


def _origin(page: str) -> str:
    """The origin of a page's address; "" when it is none that a header may carry."""
    try:
        split = urlsplit(page)
    except ValueError:
        return ""
    if split.scheme not in ("http", "https") or not (page.isascii() and page.isprintable()):
        return ""
    return f"{split.scheme}://{split.netloc}"


def routes(subject: OpenHeart) -> list[Route]:
    """The routes of the protocol."""
    return [
        Route(
            method="POST",
            path=_PATH,
            handler=subject.give,
            summary="OpenHeart: the body is an emoji, or a form whose field 'heart' is one.",
            tag="hearts",
            answers={200: dict[str, int], 204: None, 303: None},
            budget="hearts",
        ),
        Route(
            method="GET",
            path=_PATH,
            handler=subject.counts,
            summary="OpenHeart: counts by emoji.",
            tag="hearts",
            answers={200: dict[str, int]},
        ),
    ]
