"""The OCSP responder: OpenSSL's client and the CRL agree with it, and what isn't a question gets the error for it."""

from __future__ import annotations

import asyncio
import base64
import subprocess
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError
from yarl import URL

from portal.ca.authority import REVOKING, CaRefusedError, IssueRequest, Reason, Subject
from portal.ca.builtin import RESPONDER_LIFETIME
from portal.ca.certificates import CRL_LIFETIME
from portal.ca.ocsp import LIFETIME, MAX_REQUEST
from portal.keys import KeysUnavailableError
from portal.model.states import CaState
from tests.support.software_agent import public_der

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.portal_kit import Kit

_STATUS = ocsp.OCSPResponseStatus
_KEY = public_der(ec.generate_private_key(ec.SECP256R1()))


async def _issue(
    kit: Kit, request_id: str = "order.9A", *, hold: bool = False, days: int = 1
) -> x509.Certificate:
    subject = Subject("Ada Example", "ada@example.org", "ada")
    until = kit.clock() + days * 86_400
    request = IssueRequest(request_id, "authentication", _KEY, subject, until, hold)
    return x509.load_der_x509_certificate(await kit.portal.ca.issue(request))


def _serial(certificate: x509.Certificate) -> str:
    return f"{certificate.serial_number:x}"


async def _root(kit: Kit) -> x509.Certificate:
    return x509.load_der_x509_certificate(await kit.portal.ca.certificate())


async def _ask(kit: Kit, request: bytes) -> ocsp.OCSPResponse:
    headers = {"Content-Type": "application/ocsp-request"}
    async with kit.client.post(kit.server.make_url("/ocsp"), data=request, headers=headers) as answer:
        assert answer.status == 200
        assert answer.content_type == "application/ocsp-response"
        assert answer.headers["Cache-Control"] == "no-store"
        return ocsp.load_der_ocsp_response(await answer.read())


async def _request(
    kit: Kit, certificate: x509.Certificate, *extensions: tuple[x509.ExtensionType, bool]
) -> bytes:
    builder = ocsp.OCSPRequestBuilder().add_certificate(certificate, await _root(kit), hashes.SHA1())  # noqa: S303
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.build().public_bytes(Encoding.DER)


async def _crl_reason(kit: Kit, certificate: x509.Certificate) -> x509.ReasonFlags | None:
    crl = x509.load_der_x509_crl(await kit.portal.ca.crl())
    entry = crl.get_revoked_certificate_by_serial_number(certificate.serial_number)
    if entry is None:
        return None
    try:
        return entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
    except x509.ExtensionNotFound:
        return x509.ReasonFlags.unspecified


@pytest.mark.parametrize(
    "wrong",
    ["empty", "garbage", "truncated", "long", "two certificates", "critical", "long nonce", "no nonce"],
)
async def test_malformed(kit: Kit, wrong: str) -> None:
    """An unsigned malformedRequest, by POST and by GET, and nothing is written for it."""
    certificate = await _issue(kit)
    good = await _request(kit, certificate)
    one = good[4:] if good[1] == 0x81 else good[2:]
    single = one[2:]  # requestList's contents
    twice = b"\x30" + _length(len(single) * 2) + single * 2
    body = b"\x30" + _length(len(twice)) + twice
    requests = {
        "empty": b"",
        "garbage": b"garbage",
        "truncated": good[:-1],
        "long": good + bytes(MAX_REQUEST),
        "two certificates": b"\x30" + _length(len(body)) + body,
        "critical": await _request(kit, certificate, (_unknown_extension(), True)),
        "long nonce": await _request(kit, certificate, (x509.OCSPNonce(bytes(129)), False)),
        "no nonce": await _request(kit, certificate, (x509.OCSPNonce(b""), False)),
    }
    assert (await _ask(kit, requests[wrong])).response_status is _STATUS.MALFORMED_REQUEST
    if requests[wrong]:
        path = "/ocsp/" + quote(base64.b64encode(requests[wrong]), safe="")
        async with kit.client.get(str(kit.server.make_url("/")).rstrip("/") + path) as answer:
            assert answer.headers["Cache-Control"] == "no-store"
            parsed = ocsp.load_der_ocsp_response(await answer.read())
            assert parsed.response_status is _STATUS.MALFORMED_REQUEST


def _length(size: int) -> bytes:
    return bytes([size]) if size < 128 else bytes([0x81, size]) if size < 256 else b"\x82" + size.to_bytes(2)


def _unknown_extension() -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00")


@given(body=st.binary(max_size=300), cut=st.integers(0, 120))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_bytes_are_answered(kit: Kit, body: bytes, cut: int) -> None:
    """Never an exception, never "try later": bytes, and the beginning of a real request with bytes behind it."""
    real = await _request(kit, await _issue(kit))
    responder = kit.portal.ca_service.ocsp
    assert responder is not None
    for request in (body, real[:cut] + body):
        answered = ocsp.load_der_ocsp_response((await responder.answer(request)).der)
        if answered.response_status is _STATUS.SUCCESSFUL:
            assert request.startswith(
                real[: real.index(b"\x02")]
            )  # it asks for one of this CA's certificates
        else:
            assert answered.response_status in (_STATUS.MALFORMED_REQUEST, _STATUS.UNAUTHORIZED)


@pytest.mark.parametrize("away", ["key", "database"])
async def test_try_later(kit: Kit, monkeypatch: pytest.MonkeyPatch, away: str) -> None:
    """What is away comes back: the answer says so, unsigned, and the CRL's address says it in HTTP."""
    certificate = await _issue(kit)
    request = await _request(kit, certificate)

    async def no_database(*_: object) -> None:
        raise OperationalError("SELECT", None, Exception())

    def no_key(*_: object) -> None:
        raise KeysUnavailableError("away")

    with monkeypatch.context() as patch:
        if away == "key":
            patch.setattr("portal.ca.ocsp._signed", no_key)
            patch.setattr("portal.ca.certificates.crl", no_key)
            async with kit.client.get(kit.server.make_url("/ca/inlay.crl")) as refused:
                assert refused.status == 503
        else:
            patch.setattr(kit.portal.ca, "ocsp_status", no_database)
        assert (await _ask(kit, request)).response_status is _STATUS.TRY_LATER
    assert (await _ask(kit, request)).certificate_status is ocsp.OCSPCertStatus.GOOD


@pytest.mark.parametrize("content_type", ["text/plain", "application/ocsp-response"])
async def test_another_kind_of_body(kit: Kit, content_type: str) -> None:
    """Only requests are taken."""
    headers = {"Content-Type": content_type}
    async with kit.client.post(kit.server.make_url("/ocsp"), data=b"x", headers=headers) as answer:
        assert answer.status == 415


async def test_bad_base64(kit: Kit) -> None:
    """By GET."""
    async with kit.client.get(kit.server.make_url("/ocsp/%00*")) as answer:
        parsed = ocsp.load_der_ocsp_response(await answer.read())
    assert parsed.response_status is _STATUS.MALFORMED_REQUEST


async def test_another_ca(kit: Kit) -> None:
    """Nothing is said of another CA's certificates, though the serial number is ours."""
    certificate = await _issue(kit)
    builder = ocsp.OCSPRequestBuilder().add_certificate_by_hash(
        b"n" * 32, b"k" * 32, certificate.serial_number, hashes.SHA256()
    )
    answer = await _ask(kit, builder.build().public_bytes(Encoding.DER))
    assert answer.response_status is _STATUS.UNAUTHORIZED


@pytest.mark.parametrize("algorithm", [hashes.SHA1(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])  # noqa: S303
async def test_signed_by_a_delegate(kit: Kit, algorithm: hashes.HashAlgorithm) -> None:
    """The answer carries the responder's certificate, its nonce, and times of now; the CA's key didn't sign it."""
    certificate = await _issue(kit)
    root = await _root(kit)
    builder = ocsp.OCSPRequestBuilder().add_certificate(certificate, root, algorithm)
    request = builder.add_extension(x509.OCSPNonce(b"n" * 32), critical=False).build()
    answer = await _ask(kit, request.public_bytes(Encoding.DER))
    assert answer.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == b"n" * 32
    (delegate,) = answer.certificates
    delegate.verify_directly_issued_by(root)
    key = delegate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(answer.signature, answer.tbs_response_bytes, ec.ECDSA(hashes.SHA256()))
    assert delegate.extensions.get_extension_for_class(x509.OCSPNoCheck).value == x509.OCSPNoCheck()
    purposes = delegate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.OCSP_SIGNING]
    assert answer.this_update_utc.timestamp() == kit.clock()
    assert answer.next_update_utc is not None
    assert answer.next_update_utc.timestamp() == kit.clock() + LIFETIME


async def test_the_delegate_is_renewed(kit: Kit) -> None:
    """At half of its life, not before; and nobody can have it revoked."""
    request = await _request(kit, await _issue(kit, days=30))
    first = (await _ask(kit, request)).certificates
    kit.clock.now += RESPONDER_LIFETIME // 2 - 600
    assert (await _ask(kit, request)).certificates == first
    kit.clock.now += 1200
    second = (await _ask(kit, request)).certificates
    assert second != first
    assert second[0].not_valid_after_utc.timestamp() == kit.clock() + RESPONDER_LIFETIME
    with pytest.raises(CaRefusedError):
        await kit.portal.ca.revoke(_serial(second[0]), Reason.SUPERSEDED)


@pytest.mark.interop
async def test_openssl_agrees(kit: Kit, tmp_path: Path) -> None:
    """`openssl ocsp`, with a nonce, and `openssl verify -crl_check`: through the whole life of a certificate."""
    ca = kit.portal.ca
    held = await _issue(kit, "order.9C", hold=True)
    good = await _issue(kit)
    client = _OpenSsl(tmp_path, str(kit.server.make_url("/ocsp")), await _root(kit))

    async def both(certificate: x509.Certificate) -> tuple[str, bool]:
        return await client.status(certificate), await client.verifies(certificate, await ca.crl())

    assert await both(good) == ("good", True)
    assert await both(held) == ("revoked certificateHold", False)
    await ca.release(_serial(held))
    assert await both(held) == ("good", True)
    await ca.hold(_serial(good))
    assert await both(good) == ("revoked certificateHold", False)
    await ca.revoke(_serial(good), Reason.KEY_COMPROMISE)
    assert await both(good) == ("revoked keyCompromise", False)
    await ca.revoke(_serial(held), Reason.UNSPECIFIED)
    assert await both(held) == ("revoked", False)
    assert await client.status(await _stranger(kit)) == "unknown"


async def _stranger(kit: Kit) -> x509.Certificate:
    """A certificate in the CA's name that isn't in its list."""
    root = await _root(kit)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateBuilder().subject_name(root.subject).issuer_name(root.subject)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(root.not_valid_before_utc).not_valid_after(root.not_valid_after_utc)
    return builder.sign(key, hashes.SHA256())


class _OpenSsl:
    """OpenSSL's programs; files in a folder."""

    def __init__(self, folder: Path, url: str, root: x509.Certificate) -> None:
        self._folder, self._url = folder, url
        (folder / "ca.pem").write_bytes(root.public_bytes(Encoding.PEM))

    async def status(self, certificate: x509.Certificate) -> str:
        """What `openssl ocsp` prints of the certificate, once it has verified the answer."""
        self._write(certificate)
        command = ["openssl", "ocsp", "-issuer", "ca.pem", "-CAfile", "ca.pem", "-cert", "leaf.pem"]
        done = await self._run([*command, "-url", self._url, "-no_cert_checks"])
        done2 = await self._run([*command, "-url", self._url])
        assert done.returncode == done2.returncode == 0, done.stderr
        assert "Response verify OK" in done2.stderr
        assert "WARNING" not in done2.stderr, done2.stderr  # no nonce in the answer would be one
        fields = dict(line.strip().split(": ", 1) for line in done2.stdout.splitlines() if ": " in line)
        return " ".join([fields["leaf.pem"], *([fields["Reason"]] if "Reason" in fields else [])])

    async def verifies(self, certificate: x509.Certificate, crl: bytes) -> bool:
        """Whether `openssl verify -crl_check` takes it; if not, because it is on the CRL."""
        self._write(certificate)
        (self._folder / "crl.pem").write_bytes(x509.load_der_x509_crl(crl).public_bytes(Encoding.PEM))
        command = [
            "openssl",
            "verify",
            "-x509_strict",
            "-crl_check",
            "-CAfile",
            "ca.pem",
            "-CRLfile",
            "crl.pem",
        ]
        done = await self._run([*command, "leaf.pem"])
        assert done.returncode == 0 or "certificate revoked" in done.stderr, done.stderr
        return done.returncode == 0

    def _write(self, certificate: x509.Certificate) -> None:
        (self._folder / "leaf.pem").write_bytes(certificate.public_bytes(Encoding.PEM))

    async def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        def run() -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                command, cwd=self._folder, capture_output=True, text=True, check=False, timeout=30
            )

        return await asyncio.to_thread(run)


async def test_get_may_be_kept_a_little(kit: Kit) -> None:
    """By GET, escaped or not, without a nonce: the same answer, and how long a proxy may keep it."""
    certificate = await _issue(kit)
    request = base64.b64encode(await _request(kit, certificate)).decode()
    base = str(kit.server.make_url("/ocsp/"))
    for path in (request, quote(request, safe="")):
        async with kit.client.get(URL(base + path, encoded=True)) as answer:
            assert answer.headers["Cache-Control"] == "max-age=60, public, no-transform, must-revalidate"
            assert all(name in answer.headers for name in ("Expires", "ETag"))
            parsed = ocsp.load_der_ocsp_response(await answer.read())
        assert parsed.certificate_status is ocsp.OCSPCertStatus.GOOD
    request = base64.b64encode(await _request(kit, certificate, (x509.OCSPNonce(b"n" * 32), False))).decode()
    async with kit.client.get(URL(base + quote(request, safe=""), encoded=True)) as answer:
        assert answer.headers["Cache-Control"] == "no-store"


async def test_what_is_final_stays(kit: Kit) -> None:
    """On hold and released at will; nothing follows a revocation; reasons that don't revoke are refused."""
    ca = kit.portal.ca
    serial = _serial(certificate := await _issue(kit))
    for _ in range(2):
        await ca.hold(serial)
        await ca.hold(serial)
        assert await ca.status(serial) is CaState.HELD
        assert await _crl_reason(kit, certificate) is x509.ReasonFlags.certificate_hold
        await ca.release(serial)
        await ca.release(serial)
        assert await ca.status(serial) is CaState.GOOD
        assert await _crl_reason(kit, certificate) is None
    for reason in (Reason.CERTIFICATE_HOLD, Reason.REMOVE_FROM_CRL):
        with pytest.raises(CaRefusedError) as caught:
            await ca.revoke(serial, reason)
        assert caught.value.reason == "reason"
    await ca.hold(serial)
    await ca.revoke(serial, Reason.PRIVILEGE_WITHDRAWN)
    for change in (ca.hold, ca.release):
        with pytest.raises(CaRefusedError) as caught:
            await change(serial)
        assert caught.value.reason == "revoked"
    await ca.revoke(serial, Reason.UNSPECIFIED)
    assert await _crl_reason(kit, certificate) is x509.ReasonFlags.privilege_withdrawn
    assert await ca.status(serial) is CaState.REVOKED
    assert await ca.status("ff") is None


@pytest.mark.parametrize("reason", sorted(REVOKING))
async def test_every_reason_of_rfc_5280_is_on_the_crl_and_in_the_answer(kit: Kit, reason: Reason) -> None:
    """Unspecified isn't written (RFC 5280, 5.3.1); one that was on hold before has its last reason."""
    good, held = await _issue(kit), await _issue(kit, "order.9C", hold=True)
    for certificate in (good, held):
        await kit.portal.ca.revoke(_serial(certificate), reason)
        answer = await _ask(kit, await _request(kit, certificate))
        assert answer.certificate_status is ocsp.OCSPCertStatus.REVOKED
        written = None if reason is Reason.UNSPECIFIED else x509.ReasonFlags(reason.value)
        assert answer.revocation_reason is written
        assert await _crl_reason(kit, certificate) is x509.ReasonFlags(reason.value)


async def test_issue_again_of_one_on_hold(kit: Kit) -> None:
    """The same certificate; asked for again it changes nothing."""
    first = await _issue(kit, hold=True)
    await kit.portal.ca.release(_serial(first))
    assert await _issue(kit, hold=True) == first
    assert await kit.portal.ca.status(_serial(first)) is CaState.GOOD


async def test_an_expired_certificate_stays_on_the_list_for_a_while(kit: Kit) -> None:
    """RFC 5280, 3.3: until a CRL was issued after its end."""
    certificate = await _issue(kit)
    await kit.portal.ca.revoke(_serial(certificate), Reason.SUPERSEDED)
    kit.clock.now += 86_400 + 60
    assert await _crl_reason(kit, certificate) is x509.ReasonFlags.superseded
    for _ in range(2):
        kit.clock.now += CRL_LIFETIME
        await kit.portal.ca.crl()
    kit.clock.now += CRL_LIFETIME
    assert await _crl_reason(kit, certificate) is None
