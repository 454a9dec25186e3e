"""The driver for cards with a vendor's module, against SoftHSM 2 and modules that misbehave."""

from __future__ import annotations

import asyncio
import datetime
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from agent.pcsc.pkcs11 import Driver
from agent.pcsc.pkcs11_process import Process
from agent.pcsc.pkcs11_tokens import Token
from agent.pcsc.public_keys import PublicKey
from protocol.errors import InlayError
from tests.support import bad_modules, softhsm

PUK, PIN, OTHER = b"87654321", b"246810", b"135791"
KEY = b"\x9a"
DAY = datetime.timedelta(days=1)
OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)


def typed(pin: bytes) -> bytearray:
    return bytearray(pin)


@pytest.fixture
async def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Driver]:
    monkeypatch.setenv("SOFTHSM2_CONF", str(softhsm.make_config(tmp_path)))
    driver = Driver(softhsm.MODULE)
    yield driver
    await driver.close()


@pytest.fixture
async def token(driver: Driver) -> Token:
    """A fresh token with a PIN, a session open, nobody logged in."""
    blank = (await driver.tokens())[0]
    await driver.initialise(blank, typed(PUK), "Inlay test")
    made = next(found for found in await driver.tokens() if found.initialised)
    await driver.open(made)
    await driver.set_first_pin(typed(PUK), typed(PIN))
    return made


def certificate_for(public: PublicKey) -> bytes:
    """A certificate of some authority for a key, DER."""
    name = x509.Name.from_rfc4514_string("CN=Alex Example")
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, public, x509.random_serial_number(), now, now + DAY)
    signed = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(Encoding.DER)


@pytest.fixture
def bad_module(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A module that misbehaves as the test says; built before the test's event loop runs."""
    return bad_modules.build(tmp_path, request.param)


async def refused(work: object) -> str:
    with pytest.raises(InlayError) as caught:
        await work  # type: ignore[misc]  # any awaitable
    return caught.value.code


# --- what goes wrong


async def test_wrong_pin_spends_one_try_and_says_so(driver: Driver, token: Token) -> None:
    assert await refused(driver.verify(typed(OTHER))) == "pkcs11_pin_wrong"
    await driver.verify(typed(PIN))


async def test_pin_that_the_card_does_not_take_is_named(driver: Driver, token: Token) -> None:
    assert await refused(driver.change_pin(typed(PIN), typed(b"1"))) == "card_pin_form"
    await driver.verify(typed(PIN))


async def test_keys_want_the_pin_first(driver: Driver, token: Token) -> None:
    code = await refused(driver.generate(KEY, "key", "P-256", "sign"))
    assert code == "card_pin_needed"


async def test_key_that_is_not_there_is_named_by_its_place(driver: Driver, token: Token) -> None:
    await driver.verify(typed(PIN))
    with pytest.raises(InlayError) as caught:
        await driver.sign(KEY, b"message")
    assert (caught.value.code, caught.value.fields["slot"]) == ("card_key_missing", "9A")


async def test_token_that_is_not_there_is_named_by_its_serial(driver: Driver) -> None:
    assert await refused(driver.find("0000")) == "pkcs11_token_missing"


async def test_missing_and_foreign_files_are_no_modules(tmp_path: Path) -> None:
    (tmp_path / "module.so").write_text("no module")
    for name in ("away.so", "module.so"):
        driver = Driver(tmp_path / name)
        assert await refused(driver.tokens()) == "pkcs11_module_missing"
        await driver.close()


ROOT_GIVES = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a file to somebody else")


def placed(module: Path, folder: Path, *, mode: int, owner: int) -> tuple[Path, Path]:
    """A copy of a module in a folder of its own, and a link to it from elsewhere."""
    folder.mkdir()
    copy, link = folder / "module.so", folder.parent / "link.so"
    copy.write_bytes(module.read_bytes())
    os.chown(copy, owner, -1)
    copy.chmod(mode)
    link.symlink_to(copy)
    return copy, link


@pytest.mark.parametrize(
    ("folder", "file", "owner"),
    [
        (0o777, 0o755, os.geteuid()),
        (0o755, 0o666, os.geteuid()),
        (0o755, 0o775, os.geteuid()),
        pytest.param(0o755, 0o755, 1, marks=ROOT_GIVES),
    ],
)
@pytest.mark.parametrize("bad_module", ["crashes"], indirect=True)
async def test_module_that_others_may_change_isnt_started(
    bad_module: Path, tmp_path: Path, folder: int, file: int, owner: int
) -> None:
    found = placed(bad_module, tmp_path / "modules", mode=file, owner=owner)
    (tmp_path / "modules").chmod(folder)
    for path in found:
        assert await refused(Driver(path).tokens()) == "pkcs11_module_unsafe"


@pytest.mark.parametrize("bad_module", ["crashes"], indirect=True)
async def test_a_process_that_has_ended_is_not_killed_as_well(
    bad_module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To kill asks how it has ended, and then asyncio says in the log that it knows of no such process."""
    killed: list[int] = []
    monkeypatch.setattr(asyncio.subprocess.Process, "kill", lambda self: killed.append(self.pid))
    process = Process(bad_module)
    assert await refused(process.call("tokens")) == "pkcs11_module_crashed"
    assert killed == []
    await process.close()


@pytest.mark.parametrize("bad_module", ["crashes"], indirect=True)
async def test_module_that_crashes_is_named_and_started_anew(bad_module: Path) -> None:
    process = Process(bad_module)
    for starts in (1, 2):
        assert await refused(process.call("tokens")) == "pkcs11_module_crashed"
        assert process.starts == starts
    await process.close()


@pytest.mark.parametrize("bad_module", ["hangs"], indirect=True)
async def test_module_that_hangs_is_ended_at_its_deadline(bad_module: Path) -> None:
    process = Process(bad_module)
    with pytest.raises(InlayError) as caught:
        await process.call("tokens", seconds=3)
    assert caught.value.fields == {"module": "hangs.so", "call": "tokens", "seconds": 3}
    assert caught.value.code == "pkcs11_module_hung"
    assert process._child is None
    await process.close()


@pytest.mark.parametrize("bad_module", ["chatters"], indirect=True)
async def test_what_a_module_prints_is_no_answer(bad_module: Path) -> None:
    process = Process(bad_module)
    with pytest.raises(InlayError) as caught:
        await process.call("tokens")
    assert caught.value.code == "card_feature_missing"
    assert caught.value.fields["command"] == "C_GetSlotList"
    await process.close()


async def test_nobody_is_logged_in_again_after_the_process_has_gone(driver: Driver, token: Token) -> None:
    await driver.verify(typed(PIN))
    child = driver._process._child
    assert child is not None
    os.kill(child.pid, signal.SIGKILL)
    await child.wait()
    assert (await driver.tokens())[0].serial == token.serial
    assert await refused(driver.objects()) == "card_pin_needed"


async def test_key_that_is_none_is_refused_before_the_card_hears_of_it(driver: Driver, token: Token) -> None:
    await driver.verify(typed(PIN))
    code = await refused(driver.import_key(KEY, "key", bytearray(b"no key"), "decrypt"))
    assert code == "recovered_key_invalid"
    assert await driver.objects() == []


# --- what goes right


@pytest.mark.parametrize("algorithm", ["RSA-2048", "P-256", "P-384"])
async def test_key_is_made_asked_for_and_certified(driver: Driver, token: Token, algorithm: str) -> None:
    await driver.verify(typed(PIN))
    public = await driver.generate(KEY, "authentication", algorithm, "sign")
    request = x509.load_der_x509_csr(await driver.request(KEY, "CN=Alex Example"))
    assert request.is_signature_valid
    assert request.public_key() == public
    certificate = certificate_for(public)
    await driver.write_certificate(KEY, "authentication", certificate)
    again = certificate_for(public)
    await driver.write_certificate(KEY, "authentication", again)
    assert await driver.certificate(KEY) == again != certificate
    kinds = sorted(item.kind for item in await driver.objects())
    assert kinds == ["certificate", "private key", "public key"]
    assert await driver.delete(KEY)
    assert await driver.objects() == []
    assert not await driver.delete(KEY)


async def test_imported_rsa_key_decrypts(driver: Driver, token: Token) -> None:
    await driver.verify(typed(PIN))
    private = rsa.generate_private_key(65537, 2048)
    der = bytearray(private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
    await driver.import_key(KEY, "encryption", der, "decrypt")
    assert await driver.public_key(KEY) == private.public_key()
    for message in (b"", b"\x00secret\x00", bytes(32)):
        assert await driver.decrypt(KEY, private.public_key().encrypt(message, OAEP)) == message


async def test_decryption_of_what_is_not_padded_so_is_refused(driver: Driver, token: Token) -> None:
    await driver.verify(typed(PIN))
    await driver.generate(KEY, "encryption", "RSA-2048", "decrypt")
    public = await driver.public_key(KEY)
    assert isinstance(public, rsa.RSAPublicKey)
    wrong = public.encrypt(b"message", padding.PKCS1v15())
    assert await refused(driver.decrypt(KEY, wrong)) == "card_answer_malformed"


async def test_imported_ec_key_agrees(driver: Driver, token: Token) -> None:
    await driver.verify(typed(PIN))
    private = ec.generate_private_key(ec.SECP256R1())
    der = bytearray(private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
    await driver.import_key(KEY, "encryption", der, "decrypt")
    other = ec.generate_private_key(ec.SECP256R1())
    point = other.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    assert await driver.agree(KEY, point) == private.exchange(ec.ECDH(), other.public_key())


async def test_pin_is_changed_and_unblocked(driver: Driver, token: Token) -> None:
    await driver.change_pin(typed(PIN), typed(OTHER))
    assert await refused(driver.verify(typed(PIN))) == "pkcs11_pin_wrong"
    await driver.set_first_pin(typed(PUK), typed(PIN))
    await driver.verify(typed(PIN))


async def test_initialising_erases(driver: Driver, token: Token) -> None:
    await driver.verify(typed(PIN))
    await driver.generate(KEY, "key", "P-256", "sign")
    assert await refused(driver.initialise(token, typed(OTHER), "again")) == "pkcs11_pin_wrong"
    await driver.initialise(token, typed(PUK), "again")
    found = await driver.find((await driver.tokens())[0].serial)
    assert (found.label, found.pin_set) == ("again", False)


async def test_a_key_that_wants_the_pin_before_each_use_gets_it_and_a_wrong_one_signs_nothing(
    driver: Driver, token: Token
) -> None:
    made = await asyncio.create_subprocess_exec(
        *(
            "pkcs11-tool",
            "--module",
            softhsm.MODULE,
            "--token-label",
            token.label,
            "--login",
            "--pin",
            PIN.decode(),
        ),
        *("--keypairgen", "--key-type", "EC:prime256v1", "--id", "9c", "--always-auth"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await made.communicate()
    assert made.returncode == 0, said
    await driver.close()
    await driver.open(next(found for found in await driver.tokens() if found.initialised))
    await driver.verify(typed(PIN))
    message = b"a document"
    for _ in range(2):
        signature = await driver.sign(b"\x9c", message, typed(PIN))
        public = await driver.public_key(b"\x9c")
        assert isinstance(public, ec.EllipticCurvePublicKey)
        public.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    with pytest.raises(InlayError) as caught:
        await driver.sign(b"\x9c", message, typed(OTHER))
    assert caught.value.code == "pkcs11_pin_wrong"
