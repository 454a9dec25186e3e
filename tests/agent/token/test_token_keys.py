"""Which of a token's keys is the one for a reference, and which are removed for it: with SoftHSM 2."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from agent import token_keys
from agent.pcsc.pkcs11 import Driver
from protocol.errors import InlayError
from tests.support import softhsm, token_readers
from tests.support.token_readers import PIN

DAY = datetime.timedelta(days=1)
OLD, NEWER, OTHERS = token_keys.new_id("9A", "old"), token_keys.new_id("9A", "new"), b"\x9a"


@pytest.fixture
async def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Driver]:
    """A token that somebody is logged in to."""
    monkeypatch.setenv("SOFTHSM2_CONF", str(softhsm.make_config(tmp_path)))
    token_readers.initialise()
    driver = Driver(softhsm.MODULE)
    (token,) = [token for token in await driver.tokens() if token.initialised]
    await driver.open(token)
    await driver.verify(bytearray(PIN))
    yield driver
    await driver.close()


async def certified(driver: Driver, key: bytes, days_ago: int) -> bytes:
    """Make a key with this id, and a certificate that is so old."""
    public = await driver.generate(key, "key", "P-256", "sign")
    name = x509.Name.from_rfc4514_string("CN=Alex Example")
    begins = datetime.datetime.now(datetime.UTC) - days_ago * DAY
    builder = x509.CertificateBuilder(
        name, name, public, x509.random_serial_number(), begins, begins + 9 * DAY
    )
    der = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(Encoding.DER)
    await driver.write_certificate(key, "key", der)
    return der


async def test_a_key_of_another_program_is_not_ours(driver: Driver) -> None:
    await certified(driver, OTHERS, 1)
    with pytest.raises(InlayError) as caught:
        await token_keys.present_id(driver, "9A")
    assert (caught.value.code, caught.value.fields["slot"]) == ("card_key_missing", "9A")


async def test_what_an_interrupted_order_has_left_is_not_taken_for_the_key_that_was_there(
    driver: Driver,
) -> None:
    for order in range(3):  # ids have no order that could be right by chance
        await certified(driver, token_keys.new_id("9A", f"left {order}"), 1)
    await certified(driver, OLD, 2)
    await driver.generate(NEWER, "key", "P-256", "sign")
    assert await token_keys.present_id(driver, "9A") == OLD


async def test_all_others_for_a_reference_are_removed_and_nothing_else(driver: Driver) -> None:
    for key in (OTHERS, OLD, token_keys.new_id("9C", "old")):
        await certified(driver, key, 2)
    der = await certified(driver, NEWER, 1)
    await token_keys.remove_others(driver, "9A", NEWER, der)
    left = {item.key for item in await driver.objects()}
    assert left == {OTHERS, NEWER, token_keys.new_id("9C", "old")}
    assert await driver.certificates(NEWER) == [der]
