"""Every algorithm, and every way of passing off a token that nobody signed."""

import base64
import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from heartcast.api.auth import ApiKey, Authenticator, AuthOptions, keys
from heartcast.api.route import ADMIN, HEARTS_WRITE, PUSH_WRITE
from heartcast.core.errors import SettingsError, Unauthenticated
from heartcast.testing import ManualClock

SECRET = "a secret of more than thirty-two bytes"
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
PRIVATE = {"RS256": RSA, "ES256": EC, "EdDSA": ED, "HS256": SECRET}


def pem(private: Any) -> str:
    return private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def jwk(private: Any, **more: object) -> dict[str, object]:
    reader = {rsa.RSAPrivateKey: RSAAlgorithm, ec.EllipticCurvePrivateKey: ECAlgorithm}
    kind = next((reader[class_] for class_ in reader if isinstance(private, class_)), OKPAlgorithm)
    return {**kind.to_jwk(private.public_key(), as_dict=True), **more}


def jwks(*described: object) -> bytes:
    return json.dumps({"keys": described}).encode()


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.fixture
def authenticator(clock: ManualClock) -> Authenticator:
    options = AuthOptions(jwt_secret=SECRET, jwt_public_keys=[pem(RSA), pem(EC), pem(ED)])
    return Authenticator(options, clock, is_open=False)


@pytest.mark.parametrize("algorithm", list(PRIVATE))
def test_a_token_of_each_algorithm_names_its_user(authenticator: Authenticator, algorithm: str) -> None:
    token = jwt.encode({"sub": "u456"}, PRIVATE[algorithm], algorithm=algorithm)

    assert authenticator.verify(token).user == "u456"


@pytest.mark.parametrize("algorithm", list(PRIVATE))
def test_a_changed_payload_is_refused(authenticator: Authenticator, algorithm: str) -> None:
    head, _, signature = jwt.encode({"sub": "u1"}, PRIVATE[algorithm], algorithm=algorithm).split(".")

    with pytest.raises(Unauthenticated):
        authenticator.verify(f"{head}.{b64(json.dumps({'sub': 'admin'}).encode())}.{signature}")


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        ("RS256", rsa.generate_private_key(65537, 2048)),
        ("ES256", ec.generate_private_key(ec.SECP256R1())),
        ("EdDSA", ed25519.Ed25519PrivateKey.generate()),
        ("HS256", "another secret of more than 32 bytes"),
    ],
)
def test_a_token_of_another_key_is_refused(authenticator: Authenticator, algorithm: str, key: Any) -> None:
    with pytest.raises(Unauthenticated):
        authenticator.verify(jwt.encode({"sub": "u1"}, key, algorithm=algorithm))


def _hmac_with(secret: bytes) -> str:
    """HS256 by hand: the library refuses to use a public key as a secret."""
    signing_input = f"{b64(json.dumps({'alg': 'HS256'}).encode())}.{b64(json.dumps({'sub': 'u1'}).encode())}"
    hmac = jwt.get_algorithm_by_name("HS256")
    return f"{signing_input}.{b64(hmac.sign(signing_input.encode(), secret))}"


def test_a_public_key_is_no_secret(clock: ManualClock) -> None:
    assert Authenticator(AuthOptions(jwt_secret=SECRET), clock, is_open=False).verify(
        _hmac_with(SECRET.encode())
    )
    for options in (
        AuthOptions(jwt_public_keys=[pem(RSA)]),
        AuthOptions(jwt_secret=SECRET, jwt_public_keys=[pem(RSA)]),
    ):
        authenticator = Authenticator(options, clock, is_open=False)
        for secret in (pem(RSA), pem(RSA).strip(), pem(RSA).removesuffix("\n")):
            with pytest.raises(Unauthenticated):
                authenticator.verify(_hmac_with(secret.encode()))


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "NONE", "nOnE", "", "HS384", "RS512", "ES256K", "PS256"]
)
def test_unsigned_tokens_and_other_algorithms_are_refused(
    authenticator: Authenticator, algorithm: str
) -> None:
    body = b64(json.dumps({"sub": "u1"}).encode())
    for signature in ("", "AAAA"):
        with pytest.raises(Unauthenticated):
            authenticator.verify(f"{b64(json.dumps({'alg': algorithm}).encode())}.{body}.{signature}")


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "ES256", "crit": ["exp"]},
        {"alg": "HS256", "b64": False, "crit": ["b64"]},
        {"alg": "RS256", "kid": ["a"]},
        {"alg": ["RS256"]},
        {"alg": {"a": 1}},
        {"alg": "RS256", "kid": "x" * 9000},
    ],
)
def test_headers_that_demand_or_confuse_are_refused(
    authenticator: Authenticator, header: dict[str, object]
) -> None:
    with pytest.raises(Unauthenticated):
        authenticator.verify(f"{b64(json.dumps(header).encode())}.{b64(b'{}')}.{b64(b'x' * 64)}")


def test_a_key_inside_the_token_is_not_believed(authenticator: Authenticator) -> None:
    mine = ec.generate_private_key(ec.SECP256R1())
    for header in ({"jwk": jwk(mine)}, {"jku": "https://example.com/keys"}, {"x5u": "https://example.com/k"}):
        with pytest.raises(Unauthenticated):
            authenticator.verify(jwt.encode({"sub": "u1"}, mine, algorithm="ES256", headers=header))


def test_a_deeply_nested_token_is_refused(authenticator: Authenticator) -> None:
    nested = b64(b'{"alg":' + b"[" * 2500 + b"]" * 2500 + b"}")
    with pytest.raises(Unauthenticated):
        authenticator.verify(f"{nested}.{b64(b'{}')}.x")


@pytest.mark.parametrize("name", ["nbf", "iat"])
def test_a_token_of_the_future_is_refused_beyond_the_leeway(
    clock: ManualClock, authenticator: Authenticator, name: str
) -> None:
    now_s = clock.wall_ms() // 1000

    assert authenticator.verify(jwt.encode({"sub": "u1", name: now_s + 5}, SECRET)).user == "u1"
    with pytest.raises(Unauthenticated) as caught:
        authenticator.verify(jwt.encode({"sub": "u1", name: now_s + 6}, SECRET))
    assert caught.value.code == "token_invalid"


@pytest.mark.parametrize(
    ("claims", "is_good"),
    [
        ({"iss": "https://id.example", "aud": "heartcast"}, True),
        ({"iss": "https://id.example", "aud": ["other", "heartcast"]}, True),
        ({"iss": "https://id.example", "aud": "other"}, False),
        ({"iss": "https://id.example", "aud": ["heartcast2"]}, False),
        ({"iss": "https://id.example", "aud": {"heartcast": 1}}, False),
        ({"iss": "https://id.example"}, False),
        ({"iss": "https://evil.example", "aud": "heartcast"}, False),
        ({"iss": ["https://id.example"], "aud": "heartcast"}, False),
    ],
)
def test_issuer_and_audience_must_be_ours(
    clock: ManualClock, claims: dict[str, object], is_good: bool
) -> None:
    options = AuthOptions(jwt_secret=SECRET, jwt_issuer="https://id.example", jwt_audience="heartcast")
    authenticator = Authenticator(options, clock, is_open=False)
    # The library refuses to encode such an iss; a forger's would not.
    signed = jwt.api_jws.encode(json.dumps({"sub": "u1", **claims}).encode(), SECRET)

    if is_good:
        assert authenticator.verify(signed).user == "u1"
    else:
        with pytest.raises(Unauthenticated):
            authenticator.verify(signed)


@pytest.mark.parametrize("names", [{"scope": "a hearts:write:any"}, {"scp": ["hearts:write:any"]}])
def test_scopes_of_a_token_add_to_those_of_every_user(
    authenticator: Authenticator, names: dict[str, object]
) -> None:
    token = jwt.encode({"sub": "u1", **names}, SECRET)
    identity = authenticator.identify([(b"authorization", b"Bearer " + token.encode())], "")

    assert identity.may(HEARTS_WRITE)
    assert identity.may_heart_for("u2")
    assert not identity.may_act_for("u2")
    assert not identity.may(PUSH_WRITE)
    assert not identity.is_server


def test_an_admin_may_do_everything(authenticator: Authenticator) -> None:
    claims = authenticator.verify(jwt.encode({"sub": "u1", "scope": ADMIN}, SECRET))

    assert claims.is_server


def test_without_scopes_for_all_a_user_needs_its_own(clock: ManualClock) -> None:
    authenticator = Authenticator(AuthOptions(jwt_secret=SECRET, user_scopes=[]), clock, is_open=False)

    def identity(**claims: object) -> Any:
        token = jwt.encode({"sub": "u1", **claims}, SECRET)
        return authenticator.identify([(b"authorization", b"Bearer " + token.encode())], "")

    assert not identity().may_heart_for("u1")
    assert identity().may_act_for("u1")
    assert identity(scope=HEARTS_WRITE).may_heart_for("u1")
    assert not identity(scope=HEARTS_WRITE).may_heart_for("u2")


@pytest.mark.parametrize("scope", [5, {"a": 1}, [1], True])
def test_a_scope_of_the_wrong_shape_is_refused(authenticator: Authenticator, scope: object) -> None:
    with pytest.raises(Unauthenticated):
        authenticator.verify(jwt.encode({"sub": "u1", "scope": scope}, SECRET))


def test_an_api_key_may_do_what_its_scopes_say(clock: ManualClock) -> None:
    pusher = ApiKey(key="a-key-that-pushes", scopes=["push:write"])
    hearter = ApiKey(key="a-key-that-hearts", scopes=["hearts:write:any"])
    admin = ApiKey(key="a-key-of-an-admin", scopes=["admin"])
    authenticator = Authenticator(AuthOptions(api_keys=[pusher, hearter, admin]), clock, is_open=False)

    def may(key: ApiKey) -> tuple[bool, bool, bool]:
        identity = authenticator.identify([(b"x-api-key", key.key.encode())], "")
        return identity.may(PUSH_WRITE), identity.may_heart_for("u1"), identity.is_server

    assert may(pusher) == (True, False, False)
    assert may(hearter) == (False, True, False)
    assert may(admin) == (True, True, True)


@pytest.mark.parametrize(
    "text",
    [
        "/nowhere/key.pem",
        "-----BEGIN PUBLIC KEY-----\nnonsense\n-----END PUBLIC KEY-----",
        pem(rsa.generate_private_key(65537, 1024)),
        pem(ec.generate_private_key(ec.SECP384R1())),
    ],
)
def test_a_public_key_that_cannot_serve_is_refused_at_start(clock: ManualClock, text: str) -> None:
    with pytest.raises(SettingsError, match=r"auth\.jwt_public_keys"):
        Authenticator(AuthOptions(jwt_public_keys=[text]), clock, is_open=False)


def test_a_public_key_may_be_in_a_file(clock: ManualClock, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text(pem(ED))
    authenticator = Authenticator(
        AuthOptions(jwt_public_keys=[str(tmp_path / "key.pem")]), clock, is_open=False
    )

    assert authenticator.verify(jwt.encode({"sub": "u1"}, ED, algorithm="EdDSA")).user == "u1"


def test_a_key_set_gives_its_usable_keys() -> None:
    document = jwks(
        jwk(RSA, kid="r", use="sig", alg="RS256"),
        jwk(EC, kid="e"),
        jwk(ED),
        jwk(RSA, kid="for encryption", use="enc"),
        jwk(RSA, kid="other", alg="PS512"),
        jwk(ec.generate_private_key(ec.SECP384R1()), kid="p384"),
        {"kty": "oct", "k": b64(SECRET.encode()), "kid": "secret"},
        {"kty": "unheard of"},
        "nonsense",
    )

    assert [(key.algorithm, key.kid) for key in keys.of_jwks(document)] == [
        ("RS256", "r"),
        ("ES256", "e"),
        ("EdDSA", None),
    ]


def test_of_a_private_key_in_a_key_set_only_the_public_half_is_taken() -> None:
    [key] = keys.of_jwks(jwks(RSAAlgorithm.to_jwk(RSA, as_dict=True)))

    assert isinstance(key.material, rsa.RSAPublicKey)


LIES: dict[str, bytes] = {
    "empty": b"",
    "a page": b"<html>",
    "a list": b"[]",
    "no list": b'{"keys": 5}',
    "no keys": b'{"keys": []}',
    "null": b'{"keys": [null]}',
    "nested": b'{"keys": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    "not UTF-8": b"\xff\xfe",
    "too many": jwks(*[jwk(EC, kid=str(at)) for at in range(33)]),
    "weak": jwks(jwk(rsa.generate_private_key(65537, 1024), kid="weak")),
    "a huge modulus": jwks(jwk(RSA) | {"n": b64(b"\xff" * 4096)}),
    "a huge exponent": jwks(jwk(RSA) | {"e": b64(b"\x01" + b"\x00" * 40 + b"\x01")}),
    "not on the curve": jwks(jwk(EC) | {"x": b64(b"\x01" * 32)}),
    "a number for text": jwks(jwk(EC) | {"x": 5}),
    "a list for text": jwks(jwk(EC) | {"crv": []}),
    "not base 64": jwks(jwk(RSA) | {"n": "!!!"}),
    "nothing but a type": jwks({"kty": "RSA"}),
}


@pytest.mark.parametrize("document", LIES.values(), ids=LIES)
def test_a_key_set_that_lies_is_refused(document: bytes) -> None:
    with pytest.raises(ValueError, match=r"[Kk]ey"):
        keys.of_jwks(document)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"jwks_url": "https://id.example/keys"}, "jwt_issuer"),
        ({"jwks_url": "http://id.example/keys", "jwt_issuer": "x"}, "https"),
        ({"jwks_url": "file:///etc/passwd", "jwt_issuer": "x", "jwks_allow_private": True}, "https"),
        ({"jwks_refresh_s": 1}, "between"),
        ({"jwt_leeway_s": 301}, "between"),
    ],
)
def test_settings_that_open_a_hole_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AuthOptions(**options)
