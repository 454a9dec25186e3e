"""The driver *pkcs11* with OpenSC's module, over the virtual card in a real reader."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agent.pcsc.pkcs11 import Driver
from agent.vsc.card import VirtualCard
from protocol.errors import InlayError
from tests.support.pcscd import PrivatePcscd
from tests.support.virtual_cards import EC_KEYS, PIN, RSA_KEYS, InReader, full_card, store_in

pytestmark = pytest.mark.interop

MODULE = Path("/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so")
AUTHENTICATION, SIGNATURE, ENCRYPTION = b"\x01", b"\x02", b"\x03"
"""Ids that OpenSC gives the keys 9A, 9C and 9D."""
OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)


@pytest.fixture(params=["rsa", "ec"])
async def inserted(
    request: pytest.FixtureRequest, pcscd: PrivatePcscd, tmp_path: Path
) -> AsyncIterator[tuple[VirtualCard, Driver]]:
    """A card in a reader, and the driver with a session on it."""
    card = full_card(store_in(tmp_path), RSA_KEYS if request.param == "rsa" else EC_KEYS)
    with InReader(card, pcscd.vpcd_port):
        driver = Driver(MODULE)
        # OpenSC shows a token of its own for the signature PIN; both are of the same card
        token = (await driver.tokens())[0]
        await driver.open(token)
        yield card, driver
        await driver.close()


async def test_wrong_pin_costs_one_try_and_the_last_is_announced(
    inserted: tuple[VirtualCard, Driver],
) -> None:
    card, driver = inserted
    said = []
    for tries in (2, 1):
        with pytest.raises(InlayError) as caught:
            await driver.verify(bytearray(b"999999"))
        assert caught.value.code == "pkcs11_pin_wrong"
        assert card.details().pin_tries == tries
        said.append(caught.value.fields.get("left"))
    assert said == [None, "one"]  # OpenSC's module announces the last one alone
    await driver.verify(bytearray(PIN))
    assert card.details().pin_tries == 3


async def test_keys_sign_and_decrypt(inserted: tuple[VirtualCard, Driver]) -> None:
    _, driver = inserted
    await driver.verify(bytearray(PIN))
    public = await driver.public_key(AUTHENTICATION)
    signature = await driver.sign(AUTHENTICATION, b"message")
    if isinstance(public, rsa.RSAPublicKey):
        public.verify(signature, b"message", padding.PKCS1v15(), hashes.SHA256())
    else:
        public.verify(signature, b"message", ec.ECDSA(hashes.SHA256()))
    recipient = await driver.public_key(ENCRYPTION)
    if isinstance(recipient, rsa.RSAPublicKey):
        assert await driver.decrypt(ENCRYPTION, recipient.encrypt(b"secret", OAEP)) == b"secret"
    else:
        other = ec.generate_private_key(recipient.curve)
        point = other.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        assert await driver.agree(ENCRYPTION, point) == other.exchange(ec.ECDH(), recipient)


async def test_certificates_are_read(inserted: tuple[VirtualCard, Driver]) -> None:
    _, driver = inserted
    found = {item.key for item in await driver.objects() if item.kind == "certificate"}
    assert found >= {AUTHENTICATION, SIGNATURE, ENCRYPTION}
    assert (await driver.certificate(AUTHENTICATION))[:1] == b"\x30"


async def test_what_the_module_can_not_do_is_said(inserted: tuple[VirtualCard, Driver]) -> None:
    _, driver = inserted
    await driver.verify(bytearray(PIN))
    with pytest.raises(InlayError) as caught:
        await driver.generate(b"\x04", "key", "P-256", "sign")
    assert caught.value.code == "card_feature_missing"
