"""The built-in CA: what it refuses, and that OpenSSL agrees with what it issues."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from portal.ca.authority import CaRefusedError, IssueRequest, Reason, Subject
from portal.ca.certificates import CRL_LIFETIME
from portal.ca.x509 import facts, key_hash, verify_csr, verify_public_key
from protocol.errors import InlayError
from protocol.messages import Algorithm
from tests.support.software_agent import make_csr, make_key, public_der

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.portal_kit import Kit

_SUBJECT = Subject("Ada Example", "ada@example.org", "ada")


def _request(kit: Kit, key: bytes, **changes: object) -> IssueRequest:
    values: dict[str, object] = {
        "request_id": "order.9A",
        "profile": "authentication",
        "public_key": key,
        "subject": _SUBJECT,
        "not_after": kit.clock() + 86_400,
    }
    return IssueRequest(**{**values, **changes})  # type: ignore[arg-type] # a test's changes


# OpenSSL wants keyEncipherment of a mail certificate, which an EC key can't have (RFC 5753, 7.1)
_PURPOSES = {
    **{("authentication", algorithm): "sslclient" for algorithm in Algorithm},
    **{("signature", algorithm): "smimesign" for algorithm in Algorithm},
    ("encryption", Algorithm.RSA_2048): "smimeencrypt",
}
_P256 = public_der(ec.generate_private_key(ec.SECP256R1()))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"profile": "code signing"}, "profile"),
        ({"public_key": b"not a key"}, "key"),
        ({"public_key": public_der(ec.generate_private_key(ec.SECP384R1()))}, "key"),
        ({"public_key": public_der(rsa.generate_private_key(65537, 1024))}, "key"),  # noqa: S505 - to be refused
        ({"public_key": public_der(rsa.generate_private_key(3, 2048))}, "key"),
        ({"not_after": 1}, "validity"),
        ({"not_after": 4_000_000_000}, "validity"),
        ({"subject": Subject("Ada", "ada@exämple.org", "ada")}, "email"),
    ],
    ids=["profile", "garbage", "P-384", "RSA-1024", "exponent 3", "ended", "longer than the CA", "e-mail"],
)
async def test_refused(kit: Kit, changes: dict[str, object], reason: str) -> None:
    """With a reason, and nothing is in the CA's list."""
    with pytest.raises(CaRefusedError) as caught:
        await kit.portal.ca.issue(_request(kit, _P256, **changes))
    assert caught.value.reason == reason
    assert await kit.portal.ca.find(request_id="order.9A") == []


async def test_a_request_id_is_one_certificate(kit: Kit) -> None:
    """The same id and key: the same certificate. Another key: refused."""
    ca = kit.portal.ca
    first = await ca.issue(_request(kit, _P256))
    assert await ca.issue(_request(kit, _P256)) == first
    assert await ca.find(request_id="order.9A") == [first]
    assert await ca.find(key_hash=key_hash(_P256)) == [first]
    with pytest.raises(CaRefusedError) as caught:
        await ca.issue(_request(kit, public_der(make_key(Algorithm.P_256))))
    assert caught.value.reason == "request_reused"


async def test_only_its_own_certificates_can_be_revoked(kit: Kit) -> None:
    """Neither a stranger's nor the CA's own."""
    ca = kit.portal.ca
    for serial in ("ff", facts(await ca.certificate()).serial):
        with pytest.raises(CaRefusedError):
            await ca.revoke(serial, Reason.UNSPECIFIED)


async def test_crl_numbers_go_up(kit: Kit) -> None:
    """One CRL serves half of its life; a revocation makes a new one at once."""
    ca = kit.portal.ca
    first = x509.load_der_x509_crl(await ca.crl())
    assert x509.load_der_x509_crl(await ca.crl()) == first
    issued = await ca.issue(_request(kit, _P256))
    await ca.revoke(facts(issued).serial, Reason.KEY_COMPROMISE)
    await ca.revoke(facts(issued).serial, Reason.SUPERSEDED)
    second = x509.load_der_x509_crl(await ca.crl())
    (entry,) = second
    assert (
        entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
        is x509.ReasonFlags.key_compromise
    )
    kit.clock.now += CRL_LIFETIME // 2
    third = x509.load_der_x509_crl(await ca.crl())
    numbers = [
        crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        for crl in (first, second, third)
    ]
    assert numbers == [1, 2, 3]
    assert third.next_update_utc is not None
    assert (third.next_update_utc - third.last_update_utc).total_seconds() == CRL_LIFETIME


@pytest.mark.parametrize("algorithm", list(Algorithm))
@pytest.mark.parametrize("profile", ["authentication", "signature", "encryption"])
async def test_openssl_agrees(kit: Kit, tmp_path: Path, profile: str, algorithm: Algorithm) -> None:
    """`openssl verify` with the CRL: good, and not good after the revocation."""
    ca = kit.portal.ca
    key = make_key(algorithm)
    der = await ca.issue(_request(kit, public_der(key), profile=profile))
    purpose = _PURPOSES.get((profile, algorithm), "any")
    assert _verify(tmp_path, await ca.certificate(), await ca.crl(), der, purpose) == (0, "")
    certificate = x509.load_der_x509_certificate(der)
    assert certificate.serial_number.bit_length() >= 64
    _check_extensions(certificate, profile, algorithm)
    await ca.revoke(facts(der).serial, Reason.CESSATION_OF_OPERATION)
    code, text = _verify(tmp_path, await ca.certificate(), await ca.crl(), der, purpose)
    assert code != 0
    assert "certificate revoked" in text


def _check_extensions(certificate: x509.Certificate, profile: str, algorithm: Algorithm) -> None:
    extensions = certificate.extensions
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    given = {
        name
        for name in (
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "key_agreement",
            "key_cert_sign",
        )
        if getattr(usage.value, name)
    }
    receives = "key_encipherment" if algorithm is Algorithm.RSA_2048 else "key_agreement"
    expected = {
        "authentication": ({"digital_signature"}, ExtendedKeyUsageOID.CLIENT_AUTH),
        "signature": ({"digital_signature", "content_commitment"}, ExtendedKeyUsageOID.EMAIL_PROTECTION),
        "encryption": ({receives}, ExtendedKeyUsageOID.EMAIL_PROTECTION),
    }[profile]
    assert given == expected[0]
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [expected[1]]
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.RFC822Name) == ["ada@example.org"]
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    for oid in (
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.CRL_DISTRIBUTION_POINTS,
        ExtensionOID.AUTHORITY_INFORMATION_ACCESS,
    ):
        assert extensions.get_extension_for_oid(oid).oid == oid
    assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "Ada Example"


def _verify(folder: Path, ca: bytes, crl: bytes, certificate: bytes, purpose: str) -> tuple[int, str]:
    (folder / "ca.pem").write_bytes(x509.load_der_x509_certificate(ca).public_bytes(Encoding.PEM))
    (folder / "crl.pem").write_bytes(x509.load_der_x509_crl(crl).public_bytes(Encoding.PEM))
    (folder / "leaf.pem").write_bytes(x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM))
    command = ["openssl", "verify", "-x509_strict", "-crl_check", "-purpose", purpose]
    command += ["-CAfile", "ca.pem", "-CRLfile", "crl.pem", "leaf.pem"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=30)
    return done.returncode, done.stderr


@pytest.mark.parametrize("wrong", ["altered", "other algorithm", "garbage", "truncated", "other curve"])
def test_requests_that_prove_nothing(wrong: str) -> None:
    """A request must prove its key, and the key must be the one ordered."""
    csr = make_csr(make_key(Algorithm.P_256))
    cases = {
        "altered": csr[:-1] + bytes([csr[-1] ^ 1]),
        "other algorithm": make_csr(make_key(Algorithm.RSA_2048)),
        "garbage": b"garbage",
        "truncated": csr[:-10],
        "other curve": make_csr(ec.generate_private_key(ec.SECP384R1())),
    }
    with pytest.raises(InlayError) as caught:
        verify_csr(cases[wrong], Algorithm.P_256, "9C")
    assert (caught.value.code, caught.value.fields) == ("request_invalid", {"slot": "9C"})


def test_a_bare_key_must_be_the_one_ordered() -> None:
    """For keys that can't sign."""
    key = make_key(Algorithm.P_256)
    assert verify_public_key(public_der(key), Algorithm.P_256, "9D") == key.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    for wrong in (b"garbage", public_der(make_key(Algorithm.RSA_2048))):
        with pytest.raises(InlayError):
            verify_public_key(wrong, Algorithm.P_256, "9D")
