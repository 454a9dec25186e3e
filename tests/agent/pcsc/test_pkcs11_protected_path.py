"""PINs of a token whose reader asks for them: the module gets NULL and 0, nothing else (PKCS#11 v3.1, 5.5 and 5.6)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.pcsc.pkcs11 import Driver
from agent.pcsc.pkcs11_tokens import Token
from protocol.errors import InlayError
from tests.support import token_readers
from tests.support.token_readers import PIN, SO_PIN, TokenReaders

NEW = b"135790"


@pytest.fixture
def readers(tmp_path: Path, token_shim: Path, monkeypatch: pytest.MonkeyPatch) -> TokenReaders:
    return TokenReaders.with_a_store(tmp_path, token_shim, monkeypatch)


@pytest.fixture
async def driver(readers: TokenReaders) -> AsyncIterator[Driver]:
    assert readers.module is not None
    driver = Driver(readers.module)
    yield driver
    await driver.close()


@pytest.fixture
async def token(driver: Driver, readers: TokenReaders) -> Token:
    """A token with a PIN behind a reader with keys; a session is open."""
    token_readers.initialise()
    readers.flags(token_readers.PROTECTED_PATH)
    (token,) = [found for found in await driver.tokens() if found.initialised]
    assert token.pad
    await driver.open(token)
    return token


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (0x50, "pad_cancelled"),
        (0xA0, "pkcs11_pin_wrong"),
        (0xA1, "card_pin_form"),
        (0xA2, "card_pin_form"),
        (0xA4, "card_pin_blocked"),
    ],
)
async def test_what_goes_wrong_at_the_pad_has_its_name_and_is_asked_once(
    driver: Driver, token: Token, readers: TokenReaders, answer: int, code: str
) -> None:
    readers.at_pad(answer, PIN)
    with pytest.raises(InlayError) as caught:
        await driver.verify(None)
    assert caught.value.code == code
    assert readers.left_at_pad == 1


async def test_a_wrong_pin_at_the_pad_is_the_cards_word(
    driver: Driver, token: Token, readers: TokenReaders
) -> None:
    readers.at_pad(b"999999", PIN)
    with pytest.raises(InlayError) as caught:
        await driver.verify(None)
    assert caught.value.code == "pkcs11_pin_wrong"
    await driver.verify(None)


async def test_an_empty_pin_never_has_the_pad_ask(
    driver: Driver, token: Token, readers: TokenReaders
) -> None:
    """Nothing typed in a window is a PIN of no length, and not the wish to type it elsewhere: both are NULL."""
    readers.at_pad(PIN)
    none = bytearray()
    for told in (
        driver.verify(none),
        driver.change_pin(bytearray(PIN), none),
        driver.set_pin_as_officer(none),
    ):
        with pytest.raises(InlayError) as caught:
            await told
        assert caught.value.code == "card_pin_form"
    assert readers.told() == []


async def test_none_is_null_to_every_function_that_takes_a_pin(
    driver: Driver, token: Token, readers: TokenReaders
) -> None:
    readers.at_pad(PIN, PIN, NEW, SO_PIN, PIN, SO_PIN)
    await driver.verify(None)
    await driver.change_pin(None, None)
    await driver.log_out()
    await driver.set_first_pin(None, None)
    await driver.close()
    (token,) = [found for found in await driver.tokens() if found.initialised]
    await driver.initialise(token, None, "again")
    functions = ["C_Login", "C_SetPIN", "C_SetPIN", "C_Login", "C_InitPIN", "C_InitToken"]
    assert readers.told() == [(function, True, 0) for function in functions]
    assert readers.left_at_pad == 0


async def test_a_key_that_wants_the_pin_each_time_has_the_pad_ask_each_time(
    driver: Driver, token: Token, readers: TokenReaders
) -> None:
    made = ("--keypairgen", "--key-type", "EC:prime256v1", "--id", "9c", "--always-auth", "--usage-sign")
    token_readers.pkcs11_tool(*made)
    await driver.close()
    (token,) = [found for found in await driver.tokens() if found.initialised]
    await driver.open(token)
    readers.at_pad(PIN, b"999999", PIN, PIN)
    await driver.verify(None)
    with pytest.raises(InlayError) as caught:
        await driver.sign(b"\x9c", b"message")
    assert caught.value.code == "pkcs11_pin_wrong"
    for _ in range(2):
        assert await driver.sign(b"\x9c", b"message")
    assert readers.told() == [("C_Login", True, 0)] * 4
    assert readers.left_at_pad == 0


async def test_a_pin_that_was_typed_is_told_as_it_is(
    driver: Driver, token: Token, readers: TokenReaders
) -> None:
    await driver.verify(bytearray(PIN))
    await driver.change_pin(bytearray(PIN), bytearray(NEW))
    told = [("C_Login", False, 6), ("C_SetPIN", False, 6), ("C_SetPIN", False, 6)]
    assert readers.told() == told
