"""Keys from elsewhere on a token whose module takes none by C_CreateObject: refused by name, then unwrapped."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from agent.pcsc.pkcs11 import Driver
from protocol.errors import InlayError
from tests.support.token_readers import PIN, TokenReaders

KEY = bytes.fromhex("82") + bytes(7)
OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
NOT_SUPPORTED, INCONSISTENT, NO_MEMORY = 0x54, 0xD1, 0x31


@pytest.fixture
async def driver(readers: TokenReaders, serial: str) -> AsyncIterator[Driver]:
    driver = Driver(readers.folder / "shim.so")
    await driver.open(await driver.find(serial))
    await driver.verify(bytearray(PIN))
    yield driver
    await driver.close()


def pkcs8(private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytearray:
    return bytearray(private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))


@pytest.mark.parametrize("answer", [NOT_SUPPORTED, INCONSISTENT])
async def test_a_token_that_takes_none_in_any_way_is_said_to_take_none(
    driver: Driver, readers: TokenReaders, monkeypatch: pytest.MonkeyPatch, answer: int
) -> None:
    async def none() -> list[int]:
        return []

    monkeypatch.setattr(driver, "unwraps_by", none)
    readers.takes_no_private_key(answer)
    with pytest.raises(InlayError) as caught:
        await driver.import_key(KEY, "earlier", pkcs8(ec.generate_private_key(ec.SECP256R1())), "decrypt")
    assert caught.value.code == "card_import_missing"
    assert await driver.objects() == []


async def test_a_token_that_is_full_is_not_asked_in_another_way(
    driver: Driver, readers: TokenReaders
) -> None:
    readers.takes_no_private_key(NO_MEMORY)
    with pytest.raises(InlayError) as caught:
        await driver.import_key(KEY, "earlier", pkcs8(ec.generate_private_key(ec.SECP256R1())), "decrypt")
    assert caught.value.code == "card_full"
    assert await driver.objects() == []


async def test_what_is_not_created_is_unwrapped_and_used(driver: Driver, readers: TokenReaders) -> None:
    readers.takes_no_private_key(INCONSISTENT)
    private = rsa.generate_private_key(65537, 2048)
    await driver.import_key(KEY, "earlier", pkcs8(private), "decrypt")
    assert await driver.decrypt(KEY, private.public_key().encrypt(b"message", OAEP)) == b"message"
    other, peer = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    second = bytes.fromhex("83") + bytes(7)
    await driver.import_key(second, "earlier", pkcs8(other), "decrypt")
    point = peer.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    assert await driver.agree(second, point) == peer.exchange(ec.ECDH(), other.public_key())
    assert len(await driver.objects()) == 4  # the key that wrapped them was none of the token's


async def test_a_token_tells_which_keys_it_makes(driver: Driver, serial: str) -> None:
    token = await driver.find(serial)
    known = ("RSA-2048", "P-256", "P-384", "RSA-32768", "P-8")
    assert [await driver.generates(token, each) for each in known] == [True, True, True, False, False]
