"""The portal's keys on a token (SoftHSM 2): wrong PIN, no token, a token that hangs or goes; then all that keys do."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from portal import keys_token_process
from portal.__main__ import main
from portal.keys import FileKeys, KeyStoreError, KeysUnavailableError
from portal.keys_token import TokenKeys
from portal.keys_token_process import TokenProcess, TokenRefusedError
from protocol import jose
from protocol.errors import InlayError
from protocol.messages import ChannelProof
from tests.support import softhsm
from tests.support.portal_kit import CHEAP, P256, PASSPHRASE, running_portal

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.interop

_LABEL = "inlay portal"
_PIN = b"246813579"


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TokenProcess]:
    """An empty token."""
    monkeypatch.setenv("SOFTHSM2_CONF", str(softhsm.make_config(tmp_path)))
    command = ["softhsm2-util", "--init-token", "--free", "--label", _LABEL, "--so-pin", "97531", "--pin"]
    subprocess.run([*command, _PIN.decode()], check=True, capture_output=True, timeout=30)
    process = TokenProcess(softhsm.MODULE, _LABEL, _PIN, 5)
    yield process
    process.close()


def _proof() -> ChannelProof:
    return ChannelProof(iss="portal.test", aud="inlay", nonce="n" * 43, portal_nonce="m" * 43, iat=1)


@pytest.mark.parametrize(
    ("module", "label", "pin", "reason"),
    [
        ("/nowhere/module.so", _LABEL, _PIN, "token_missing"),
        (str(softhsm.MODULE), "another", _PIN, "token_missing"),
        (str(softhsm.MODULE), _LABEL, b"11111111", "pin_wrong"),
        (str(softhsm.MODULE), _LABEL, _PIN, "token_empty"),
    ],
    ids=["module", "label", "PIN", "empty"],
)
def test_refused(token: TokenProcess, module: str, label: str, pin: bytes, reason: str) -> None:
    """With a reason; a wrong PIN is never tried a second time."""
    process = TokenProcess(Path(module), label, pin, 5)
    for _ in range(2):
        with pytest.raises(KeyStoreError) as caught:
            TokenKeys(process)
        assert caught.value.reason == reason
        assert str(caught.value)
    process.close()
    if reason == "pin_wrong":
        assert TokenKeys.make(token).order_keys()


def test_keys_are_made_once(token: TokenProcess) -> None:
    """A second time is refused and changes nothing."""
    root = TokenKeys.make(token).root().thumbprint
    with pytest.raises(KeyStoreError) as caught:
        TokenKeys.make(token)
    assert caught.value.reason == "token_in_use"
    assert TokenKeys(token).root().thumbprint == root


def test_all_or_none_is_put(token: TokenProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that refuses in the middle is left empty."""
    call = token.call

    def refusing(operation: str, **arguments: object) -> object:
        if operation == "make_aes":
            raise TokenRefusedError("C_GenerateKey", 0x70)
        return call(operation, **arguments)

    monkeypatch.setattr(token, "call", refusing)
    with pytest.raises(KeyStoreError) as caught:
        TokenKeys.make(token)
    assert caught.value.reason == "token_refused"
    assert token.call("labels") == []


def test_what_keys_do(token: TokenProcess) -> None:
    """Sign, open what was encrypted to them, seal and unseal, rotate; private halves stay where they are."""
    keys = TokenKeys.make(token)
    signed = keys.order_keys()[0].sign(jose.CHANNEL, _proof())
    assert jose.verify(signed, jose.CHANNEL, [keys.order_keys()[0].public], ChannelProof) == _proof()
    escrow = keys.escrow()
    assert escrow.decrypt(jose.encrypt(b"48151623", escrow.public)) == b"48151623"
    sealed = keys.seal(b"secret", b"label")
    assert keys.unseal(sealed, b"label") == b"secret"
    for wrong in (sealed[:-1] + bytes([sealed[-1] ^ 1]), sealed[:13], b""):
        with pytest.raises(InlayError):
            keys.unseal(wrong, b"label")
    with pytest.raises(InlayError):
        keys.unseal(sealed, b"another label")
    assert keys.unseal(sealed, b"label") == b"secret"
    for private in (keys.ca(), keys.ocsp()):
        with pytest.raises(TypeError):
            private.private_numbers()
    first = keys.order_keys()[0].thumbprint
    made = [keys.rotate_order_key().thumbprint for _ in range(3)]
    assert [key.thumbprint for key in keys.order_keys()] == made[::-1]
    assert first not in made
    assert [key.thumbprint for key in TokenKeys(token).order_keys()] == made[::-1]


def test_moved_from_a_file(token: TokenProcess, tmp_path: Path) -> None:
    """The same portal: root, order keys, CA, and what was sealed before."""
    before = FileKeys.create(tmp_path / "keys" / "portal.keys", PASSPHRASE, CHEAP)
    before.rotate_order_key()
    sealed = before.seal(b"an archived key", b"label")
    after = TokenKeys.move(token, before)
    assert after.root().public == before.root().public
    assert [key.public for key in after.order_keys()] == [key.public for key in before.order_keys()]
    assert after.ca().public_key() == before.ca().public_key()
    assert after.unseal(sealed, b"label") == b"an archived key"
    assert before.unseal(after.seal(b"x", b"y"), b"y") == b"x"
    proof = after.root().sign(jose.CHANNEL, _proof())
    assert jose.verify(proof, jose.CHANNEL, [before.root().public], ChannelProof) == _proof()


def test_a_token_that_hangs_or_goes(token: TokenProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named, within its time; then left alone for a while, and there again."""
    keys = TokenKeys.make(token)
    key = keys.ca()
    (child,) = token._running
    child.send_signal(19)  # SIGSTOP: it neither answers nor ends
    monkeypatch.setattr(token, "_seconds", 0.3)
    with pytest.raises(KeysUnavailableError) as caught:
        key.sign(b"data", ec.ECDSA(hashes.SHA256()))
    assert (caught.value.code, caught.value.reason) == ("keys_unavailable", "timeout")
    monkeypatch.setattr(token, "_seconds", 5)
    with pytest.raises(KeysUnavailableError) as caught:
        key.sign(b"data", ec.ECDSA(hashes.SHA256()))
    assert caught.value.reason == "away"
    monkeypatch.setattr(token, "_not_before", 0.0)
    with pytest.raises(KeysUnavailableError):
        keys.seal(b"x", b"y")  # nobody waits for the module, which is started beside
    assert token._starting is not None
    token._starting.result(20)
    signature = key.sign(b"data", ec.ECDSA(hashes.SHA256()))
    keys.ca().public_key().verify(signature, b"data", ec.ECDSA(hashes.SHA256()))
    (child,) = token._running
    child.kill()
    child.wait()
    with pytest.raises(KeysUnavailableError) as caught:
        keys.seal(b"x", b"y")
    assert caught.value.reason == "away"


async def test_a_whole_order(token: TokenProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key of the portal is on the token. It goes away in the middle: nothing is lost, and it is gone on with."""
    keys = await asyncio.to_thread(TokenKeys.make, token)
    monkeypatch.setattr("portal.processes.incoming._KEYS_AGAIN", 0.2)
    monkeypatch.setattr(keys_token_process, "REST_SECONDS", 0.1)
    async with running_portal(tmp_path, keys=keys) as kit:
        await kit.set_options(**P256)
        session = await kit.person()
        view, agent = await kit.bound_agent(session)
        assert agent.order is not None
        await agent.hear()
        (child,) = token._running
        child.kill()
        await agent.say(agent.card.requests(agent.order))
        answer = await agent.hear(20)
        receipt = agent.receipt(answer)  # type: ignore[arg-type] # it is the certificates, or this fails
        await agent.say(receipt)
        assert (await kit.ended(session, view.id)).state == "finished"
        assert len(await kit.valid_at_ca()) == 3
        root = x509.load_der_x509_certificate(await kit.portal.ca.certificate())
        for der in agent.card.certificates.values():
            x509.load_der_x509_certificate(der).verify_directly_issued_by(root)
        crl = x509.load_der_x509_crl(await kit.portal.ca.crl())
        assert crl.is_signature_valid(keys.ca().public_key())


def test_commands(token: TokenProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`keys` shows, refuses without a token, moves; the moved portal's fingerprint stays."""
    folder = tmp_path / "portal"
    folder.mkdir()
    (folder / "passphrase").write_bytes(PASSPHRASE)
    (folder / "pin").write_bytes(_PIN + b"\n")
    settings: dict[str, object] = {
        "origin": "https://localhost:8443",
        "name": "Example",
        "database": "sqlite+aiosqlite:///portal.db",
        "key_file": "keys/portal.keys",
        "passphrase_file": "passphrase",
    }
    file = folder / "portal.json"

    def run(*arguments: str, code: int = 0) -> str:
        file.write_text(json.dumps(settings))
        assert main(["--config", str(file), *arguments]) == code
        captured = capsys.readouterr()
        return captured.out + captured.err

    fingerprint = run("init").splitlines()[-1]
    assert "no pkcs11" in run("keys", "move", code=1)
    settings["pkcs11"] = {"module": str(softhsm.MODULE), "token": _LABEL, "pin_file": "no pin"}
    assert "PIN can't be read" in run("keys", "show", code=1)
    settings["pkcs11"] = {"module": str(softhsm.MODULE), "token": _LABEL, "pin_file": "pin"}
    assert "inlay-portal keys make" in run("keys", "show", code=1)
    moved = run("keys", "move")
    assert f"root: {fingerprint}\n" in moved
    assert "isn't read any more" in moved
    assert "has keys of a portal already" in run("keys", "make", code=1)
    (folder / "keys" / "portal.keys").unlink()
    assert run("init").splitlines()[-1] == fingerprint
    assert run("fingerprint").strip() == fingerprint
    assert "token inlay portal" in run("keys", "show")
    assert run("crl").startswith("-----BEGIN X509 CRL-----")
