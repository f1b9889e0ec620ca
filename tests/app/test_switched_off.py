"""What is switched off says how to switch it on."""

import json
import urllib.error
import urllib.request

from heartcast.app.settings import Settings
from heartcast.app.switched_off import switched_off
from heartcast.backends.webhook import new_secret
from heartcast.testing import RunningServer, running

HOOK = f'{{ url = "https://a.example/", secrets = ["{new_secret()}"] }}'
EVERYTHING = {
    "HEARTCAST_RANKING__RECOMMENDATIONS": "on",
    "HEARTCAST_HEARTS__CREDIT__IS_ON": "true",
    "HEARTCAST_HEARTS__AUDIT__IS_ON": "true",
    "HEARTCAST_HEARTS__WEBHOOKS__ENDPOINTS": f"{{ a = {HOOK} }}",
}


def _documented(server: RunningServer) -> set[str]:
    with urllib.request.urlopen(f"{server.url}/openapi.json", timeout=5) as answer:
        return set(json.load(answer)["paths"])


def _problem(server: RunningServer, path: str) -> tuple[int, str, str]:
    try:
        urllib.request.urlopen(server.url + path, timeout=5)
    except urllib.error.HTTPError as error:
        found = json.load(error)
        return error.code, found["code"], found["detail"]
    raise AssertionError(f"{path} answers")


def test_a_path_that_is_off_says_which_setting_switches_it_on() -> None:
    with running("--in-memory", environ={"HEARTCAST_RANKING__RECOMMENDATIONS": "off"}) as server:
        recommend = _problem(server, "/api/v1/recommend/u1")
        credit = _problem(server, "/api/v1/users/u1/credit")
        nowhere = _problem(server, "/api/v1/nowhere")

    assert recommend == (
        404, "switched_off", 'recommendations are off; set ranking.recommendations to "on"',
    )  # fmt: skip
    assert credit == (404, "switched_off", "credit is off; set hearts.credit.is_on")
    assert nowhere[:2] == (404, "not_found")


def test_every_path_that_can_be_off_answers_when_it_is_on() -> None:
    with running("--in-memory", environ=EVERYTHING) as server:
        assert switched_off(Settings(), []).keys() <= _documented(server)
