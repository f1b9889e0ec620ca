"""Keys that verify tokens. Each knows its one algorithm, so a token cannot pick another.

That is the whole defence against ``alg: none`` and against a public key used as an
HMAC secret: the token's ``alg`` only selects among keys that are bound to it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

MAX_KEYS = 32
"""Keys of one provider; a token without a key id is tried with each of its algorithm."""
_RSA_BITS = range(2048, 8193)
_MAX_RSA_EXPONENT = 1 << 33
"""Usual is 65537. A huge one makes every verification cost milliseconds."""

_MAX_FIELD = 1400
"""Characters of a number in base 64: 8192 bits are 1366."""

Material = str | rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class Key(NamedTuple):
    """Something that verifies signatures of one algorithm."""

    algorithm: str
    """HS256, RS256, ES256 or EdDSA."""
    kid: str | None
    """The id that tokens name it by; None: it is tried for every token of its algorithm."""
    material: Material


def of_secret(secret: str) -> Key:
    """The key of HS256 tokens."""
    return Key("HS256", None, secret)


def of_pem(text_or_path: str) -> Key:
    """A public key from PEM text, or from a file of it.

    Raises:
        ValueError: it cannot be read, or is none of RSA (2048 to 8192 bits), P-256 and Ed25519.
    """
    pem = text_or_path
    if "-----BEGIN" not in pem:
        try:
            pem = Path(pem).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"cannot read the public key {text_or_path[:200]!r}: {error}") from None
    try:
        return _bound(load_pem_public_key(pem.encode()), None)
    except (UnsupportedAlgorithm, TypeError) as error:
        raise ValueError(f"not a PEM public key: {error}") from None


def _bound(material: object, kid: str | None) -> Key:
    if isinstance(material, rsa.RSAPublicKey):
        if material.key_size not in _RSA_BITS or material.public_numbers().e > _MAX_RSA_EXPONENT:
            raise ValueError("an RSA key must have 2048 to 8192 bits and a usual exponent")
        return Key("RS256", kid, material)
    if isinstance(material, ec.EllipticCurvePublicKey) and isinstance(material.curve, ec.SECP256R1):
        return Key("ES256", kid, material)
    if isinstance(material, ed25519.Ed25519PublicKey):
        return Key("EdDSA", kid, material)
    raise ValueError("a public key must be RSA, P-256 or Ed25519")


class _JwkSet(msgspec.Struct):
    keys: list[Any]


_decode = msgspec.json.Decoder(_JwkSet).decode


def of_jwks(document: bytes) -> list[Key]:
    """The usable keys of a JSON Web Key Set (RFC 7517).

    Keys of other types, of other algorithms, for encryption, and symmetric ones are left
    out: a provider may publish them, and a secret in a public document is none.

    Raises:
        ValueError: it is no key set, has more than 32 keys, or none that is usable.
    """
    try:
        described = _decode(document).keys
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError("the document is not a JSON Web Key Set") from None
    if len(described) > MAX_KEYS:
        raise ValueError(f"the key set has more than {MAX_KEYS} keys")
    keys = [key for jwk in described if (key := _of_jwk(jwk)) is not None]
    if not keys:
        raise ValueError("the key set has no key for RS256, ES256 or EdDSA")
    return keys


_READERS: dict[str, type[RSAAlgorithm | ECAlgorithm | OKPAlgorithm]] = {
    "RSA": RSAAlgorithm,
    "EC": ECAlgorithm,
    "OKP": OKPAlgorithm,
}


def _of_jwk(jwk: object) -> Key | None:
    if not isinstance(jwk, dict) or jwk.get("use", "sig") != "sig":
        return None
    reader, kid = _READERS.get(str(jwk.get("kty"))), jwk.get("kid")
    if reader is None or not isinstance(kid, str | None):
        return None
    # Of a private key only the public half is taken; the reader would return the private one.
    public = {name: jwk[name] for name in ("kty", "crv", "n", "e", "x", "y") if name in jwk}
    if any(not isinstance(value, str) or len(value) > _MAX_FIELD for value in public.values()):
        return None
    try:
        key = _bound(reader.from_jwk(public), kid)
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, KeyError, UnsupportedAlgorithm):
        return None
    return key if jwk.get("alg", key.algorithm) == key.algorithm else None
