"""Every kind of session over TLS, and whom the tester believes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from heartcast.core.errors import InvalidInput, Unavailable
from heartcast.loadtest.bench import bench
from heartcast.loadtest.scenario import of
from heartcast.loadtest.target import Target
from heartcast.testing.server import running

SMALL = {"subscribers": 20, "channels": 2, "load": {"rate_per_s": 50.0, "seconds": 1.5, "warmup_s": 0.0}}


def certified(folder: Path) -> tuple[Path, Path, Path]:
    """(CA, certificate, key) for 127.0.0.1; the CA has signed the certificate and nobody the CA."""
    pem, ca_key, key = serialization.Encoding.PEM, *(ec.generate_private_key(ec.SECP256R1()) for _ in "ab")
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench test CA")])
    now = datetime.now(UTC)

    def signed(name: str, public: ec.EllipticCurvePublicKey, *, is_ca: bool) -> x509.Certificate:
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(ca_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
            )
        )
        return made.sign(ca_key, hashes.SHA256())

    files = folder / "ca.pem", folder / "cert.pem", folder / "key.pem"
    files[0].write_bytes(signed("bench test CA", ca_key.public_key(), is_ca=True).public_bytes(pem))
    files[1].write_bytes(signed("127.0.0.1", key.public_key(), is_ca=False).public_bytes(pem))
    unencrypted = serialization.NoEncryption()
    files[2].write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, unencrypted))
    return files


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    ca, cert, key = certified(tmp_path_factory.mktemp("tls"))
    with running("--in-memory", "--tls-cert", str(cert), "--tls-key", str(key)) as server:
        yield f"https://127.0.0.1:{server.port}", ca


@pytest.mark.parametrize("sessions", ["json", "binary", "sse"])
async def test_a_load_over_tls_is_delivered_whole(secured, sessions) -> None:
    url, ca = secured
    report = await bench(Target.parse(url, ca=str(ca)), of("fanout", {**SMALL, "sessions": sessions}))
    assert report.delivered == report.owed > 300
    assert report.failures == {}
    assert not any(report.counts[kind] for kind in ("lost", "duplicate", "reordered", "damaged"))


async def test_a_certificate_of_nobody_known_is_one_sentence_that_names_the_way_out(secured) -> None:
    url, _ = secured
    with pytest.raises(Unavailable, match=r"^nobody known here vouches for .* --ca, or .* --insecure"):
        await bench(Target.parse(url), of("fanout", SMALL))


async def test_who_does_not_check_gets_in_without_a_ca(secured) -> None:
    url, _ = secured
    report = await bench(Target.parse(url, verify_tls=False), of("fanout", SMALL))
    assert report.delivered == report.owed > 300


def test_a_ca_file_that_is_none_is_one_sentence(tmp_path) -> None:
    (tmp_path / "x.pem").write_text("nothing")
    with pytest.raises(InvalidInput, match=r"cannot read certificates from .*x\.pem"):
        Target.parse("https://127.0.0.1:1", ca=str(tmp_path / "x.pem"))


@pytest.mark.parametrize(("url", "verify", "said"), [
    ("http://127.0.0.1:1", True, "--ca needs an address that begins with https"),
    ("https://127.0.0.1:1", False, "leave one out"),
])  # fmt: skip
def test_a_ca_that_contradicts_the_rest_is_refused(url, verify, said) -> None:
    with pytest.raises(InvalidInput, match=said):
        Target.parse(url, verify_tls=verify, ca="ca.pem")
