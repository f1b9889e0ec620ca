"""Who may do what with hearts."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from heartcast.api.route import Identity
from heartcast.core.errors import Forbidden

Audience = Literal["admin", "owner", "public"]


def check_may_heart(identity: Identity, user: str, kind: str, visitor_kinds: Collection[str]) -> None:
    """Return when this caller may give and take back hearts of ``user``.

    Raises:
        Forbidden: it may not; code ``user_needed`` when it would have to be a user for it.
    """
    if identity.may_heart_for(user):
        if not identity.is_visitor or kind in visitor_kinds:
            return
        raise Forbidden("hearts of this kind need somebody who is signed in", code="user_needed")
    raise Forbidden("this token may not give or take back hearts of this user")


def check_may_act(identity: Identity, user: str) -> None:
    """Return when this caller may see what belongs to ``user``.

    Raises:
        Forbidden: it may not.
    """
    if not identity.may_act_for(user):
        raise Forbidden("this token may not act for this user")


def check_may_list(identity: Identity, target_id: str, audience: Audience) -> None:
    """Return when this caller may ask who hearted a target.

    Raises:
        Forbidden: it may not.
    """
    if identity.is_server or audience == "public":
        return
    if audience == "owner":
        if target_id in identity.owns:
            return
        raise Forbidden("only the target's owner may ask who hearted it: a token that names it in 'owns'")
    raise Forbidden("only a server may ask who hearted a target")
