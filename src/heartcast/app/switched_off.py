"""What is switched off says how to switch it on, where "nothing answers here" would send people searching."""

from __future__ import annotations

from collections.abc import Iterable

from heartcast.api.route import Route
from heartcast.app.settings import Settings

_RECOMMENDATIONS = (
    "/api/v1/recommend/{user}",
    "/api/v1/users/{user}/neighbors",
    "/api/v1/items/{id}",
    "/api/v1/items/{id}/similar",
    "/api/v1/session/recommend",
    "/api/v1/rank",
    "/api/v1/feedback",
    "/api/v1/ranking/rates",
    "/api/v1/ranking/strategies",
    "/api/v1/ranking/strategies/preview",
    "/api/v1/ranking/strategies/{name}",
    "/api/v1/ranking/strategies/{name}/activate",
)
_AUDIT = ("/api/v1/audit", "/api/v1/audit/verdict", "/api/v1/audit/people/{id}")
_CREDIT = ("/api/v1/users/{id}/credit", "/api/v1/users/{id}/credit/entries")
_WEBHOOKS = (
    "/api/v1/event-webhooks",
    "/api/v1/event-webhooks/{name}/replay",
    "/api/v1/event-webhooks/{name}/enable",
)


def switched_off(settings: Settings, routes: Iterable[Route]) -> dict[str, str]:
    """How to switch on what answers nothing now, by path, like ``/api/v1/recommend/{user}``.

    Args:
        routes: All that answer.
    """
    ways = {
        _RECOMMENDATIONS: _recommendations(settings),
        _AUDIT: "the audit log is off; set hearts.audit.is_on",
        _CREDIT: "credit is off; set hearts.credit.is_on",
        _WEBHOOKS: "no webhook follows the events of hearts; name one in hearts.webhooks.endpoints",
    }
    there = {route.path for route in routes}
    return {path: way for paths, way in ways.items() for path in paths if path not in there}


def _recommendations(settings: Settings) -> str:
    if settings.ranking.recommendations == "off":
        return 'recommendations are off; set ranking.recommendations to "on"'
    return "recommendations need the extra: pip install 'heartcast[ranking]'"
