"""An identity provider that is well, down, slow, lying or rotating its keys. Time is virtual."""

import asyncio
import json
from collections.abc import AsyncIterator

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from heartcast.api.auth import Authenticator, AuthOptions
from heartcast.core.errors import Unauthenticated, Unavailable

pytestmark = pytest.mark.looptime

OLD = ec.generate_private_key(ec.SECP256R1())
NEW = ec.generate_private_key(ec.SECP256R1())
OPTIONS = AuthOptions(jwks_url="https://id.example/keys", jwt_issuer="https://id.example")


def jwk(private: ec.EllipticCurvePrivateKey, kid: str) -> dict[str, object]:
    return {**ECAlgorithm.to_jwk(private.public_key(), as_dict=True), "kid": kid}


def jwks(*described: dict[str, object]) -> bytes:
    return json.dumps({"keys": described}).encode()


class LoopClock:
    """The loop's own time, which looptime moves."""

    def monotonic_s(self) -> float:
        return asyncio.get_running_loop().time()

    def monotonic_ns(self) -> int:
        return round(self.monotonic_s() * 1e9)

    def wall_ms(self) -> int:
        return 1_700_000_000_000 + round(self.monotonic_s() * 1000)


class Provider:
    """Publishes what the test says."""

    def __init__(self) -> None:
        self.document = jwks(jwk(OLD, kid="old"))
        self.is_down = False
        self.delay_s = 0.0
        self.asked = 0

    async def fetch(self) -> bytes:
        self.asked += 1
        await asyncio.sleep(self.delay_s)
        if self.is_down:
            raise Unavailable("cannot fetch")
        return self.document


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
async def authenticator(provider: Provider) -> AsyncIterator[Authenticator]:
    authenticator = Authenticator(OPTIONS, LoopClock(), is_open=False, fetch=provider.fetch)
    task = asyncio.create_task(authenticator.run())
    yield authenticator
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def token(private: ec.EllipticCurvePrivateKey, kid: str | None, **claims: object) -> str:
    said = {"sub": "u1", "iss": "https://id.example", **claims}
    return jwt.encode(said, private, algorithm="ES256", headers={"kid": kid} if kid else None)


def says(authenticator: Authenticator, shown: str) -> str:
    """What becomes of a request with this token, asked twice so that memory plays its part."""
    outcomes = set()
    for _ in range(2):
        try:
            header = (b"authorization", b"Bearer " + shown.encode())
            outcomes.add(f"user {authenticator.identify([header], '').user}")
        except Unavailable as error:
            outcomes.add("later" if error.code == "keys_unavailable" else error.code)
        except Unauthenticated:
            outcomes.add("no")
    [outcome] = outcomes
    return outcome


async def test_a_token_is_good_as_soon_as_the_keys_are_there(provider: Provider) -> None:
    provider.delay_s = 1.0
    authenticator = Authenticator(OPTIONS, LoopClock(), is_open=False, fetch=provider.fetch)
    assert says(authenticator, token(OLD, "old")) == "later"
    running = asyncio.create_task(authenticator.run())
    await asyncio.sleep(0.5)
    assert says(authenticator, token(OLD, "old")) == "later"
    await asyncio.sleep(1)
    assert says(authenticator, token(OLD, "old")) == "user u1"
    assert says(authenticator, token(OLD, None)) == "user u1"
    running.cancel()


async def test_a_token_of_an_unknown_key_waits_for_one_look_and_then_is_refused(
    authenticator: Authenticator, provider: Provider
) -> None:
    await asyncio.sleep(OPTIONS.jwks_cooldown_s)
    forged = token(NEW, "unheard of")

    assert says(authenticator, forged) == "later"
    await asyncio.sleep(0.001)
    assert says(authenticator, forged) == "no"
    assert provider.asked == 2


async def test_forged_tokens_cannot_flood_the_provider(
    authenticator: Authenticator, provider: Provider
) -> None:
    await asyncio.sleep(1)
    asked_before = provider.asked
    for at in range(300):
        says(authenticator, token(NEW, f"forged {at}"))
        await asyncio.sleep(1)

    assert provider.asked - asked_before <= 300 / OPTIONS.jwks_cooldown_s + 1
    assert says(authenticator, token(OLD, "old")) == "user u1"


async def test_a_new_key_is_found_when_a_token_names_it(
    authenticator: Authenticator, provider: Provider
) -> None:
    await asyncio.sleep(OPTIONS.jwks_cooldown_s)
    provider.document = jwks(jwk(OLD, kid="old"), jwk(NEW, kid="new"))

    assert says(authenticator, token(NEW, "new")) == "later"
    await asyncio.sleep(0.001)
    assert says(authenticator, token(NEW, "new")) == "user u1"
    assert says(authenticator, token(OLD, "old")) == "user u1"


async def test_a_withdrawn_key_stops_to_count_also_for_remembered_tokens(
    authenticator: Authenticator, provider: Provider
) -> None:
    await asyncio.sleep(1)
    shown = token(OLD, "old")
    assert says(authenticator, shown) == "user u1"
    provider.document = jwks(jwk(NEW, kid="new"))

    await asyncio.sleep(OPTIONS.jwks_refresh_s)

    assert says(authenticator, shown) in ("no", "later")
    await asyncio.sleep(1)
    assert says(authenticator, shown) == "no"


async def test_a_known_key_id_with_another_key_does_not_help_a_forger(
    authenticator: Authenticator, provider: Provider
) -> None:
    await asyncio.sleep(1)
    asked_before = provider.asked

    assert says(authenticator, token(NEW, "old")) == "no"
    assert provider.asked == asked_before


@pytest.mark.parametrize("trouble", ["down", "lies"])
async def test_the_known_keys_outlive_a_provider_in_trouble(
    authenticator: Authenticator, provider: Provider, trouble: str
) -> None:
    await asyncio.sleep(1)
    if trouble == "down":
        provider.is_down = True
    else:
        provider.document = b'{"keys": []}'

    await asyncio.sleep(OPTIONS.jwks_max_stale_s - OPTIONS.jwks_refresh_s)
    assert says(authenticator, token(OLD, "old")) == "user u1"
    assert says(authenticator, token(NEW, "new")) == "later"  # nobody can know

    await asyncio.sleep(2 * OPTIONS.jwks_refresh_s)
    assert says(authenticator, token(OLD, "old")) == "later"

    provider.is_down, provider.document = False, jwks(jwk(OLD, kid="old"))
    await asyncio.sleep(OPTIONS.jwks_cooldown_s)
    assert says(authenticator, token(OLD, "old")) == "user u1"


async def test_a_provider_that_is_down_at_start_is_asked_again_soon(provider: Provider) -> None:
    provider.is_down = True
    authenticator = Authenticator(OPTIONS, LoopClock(), is_open=False, fetch=provider.fetch)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(authenticator.run())
        await asyncio.sleep(0.5)
        provider.is_down = False
        await asyncio.sleep(1)
        assert says(authenticator, token(OLD, "old")) == "user u1"
        assert authenticator.jwks is not None
        assert (authenticator.jwks.looks, authenticator.jwks.failed_looks) == (2, 1)
        running.cancel()


async def test_while_a_slow_look_is_under_way_known_keys_answer_at_once(
    authenticator: Authenticator, provider: Provider
) -> None:
    await asyncio.sleep(OPTIONS.jwks_cooldown_s)
    provider.delay_s = 4.0
    assert says(authenticator, token(NEW, "new")) == "later"
    await asyncio.sleep(1)

    started_s = asyncio.get_running_loop().time()
    assert says(authenticator, token(OLD, "old")) == "user u1"
    assert says(authenticator, token(NEW, "new")) == "later"
    assert asyncio.get_running_loop().time() == started_s

    await asyncio.sleep(4)
    assert says(authenticator, token(NEW, "new")) == "no"


async def test_a_token_of_another_issuer_is_refused(authenticator: Authenticator) -> None:
    await asyncio.sleep(1)

    assert says(authenticator, token(OLD, "old", iss="https://evil.example")) == "no"


async def test_tokens_by_secret_do_not_need_the_provider(provider: Provider) -> None:
    provider.is_down = True
    secret = "a secret of more than thirty-two bytes"
    options = AuthOptions(jwks_url=OPTIONS.jwks_url, jwt_issuer="me", jwt_secret=secret)
    authenticator = Authenticator(options, LoopClock(), is_open=False, fetch=provider.fetch)

    assert says(authenticator, jwt.encode({"sub": "u1", "iss": "me"}, secret)) == "user u1"
    assert says(authenticator, jwt.encode({"sub": "u1", "iss": "me"}, secret[::-1])) == "no"
