"""Orders by the driver *pkcs11* with OpenSC's module, the PIN typed at a reader with a pad: real pcscd, our card."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agent import card_map
from agent.card_map import CardKind, CardMap
from agent.pcsc import scard
from agent.pcsc.pkcs11 import Driver
from agent.pcsc.pkcs11_tokens import Token
from agent.vsc.card import VirtualCard
from protocol.errors import InlayError
from protocol.messages import Binding, ChangePin, PinPolicy, Sign, VerifyPin
from protocol.tokens import token_guid
from tests.agent.test_order_authenticate_sign import DIGEST, check
from tests.support.agent_parts import CODE, AgentParts, PcscReadersOfATest, running_agent
from tests.support.fake_portal import FakePortal
from tests.support.pcscd import PrivatePcscd
from tests.support.physical_orders import order, window_of
from tests.support.pin_pad_reader import CANCELLED, READER, TIMED_OUT, PinPad, pin_pad
from tests.support.process_memory import holds
from tests.support.processes import wait_until
from tests.support.token_orders import processes_of
from tests.support.virtual_cards import EC_KEYS, full_card, store_in
from tests.support.virtual_cards import PIN as FIRST_PIN

pytestmark = pytest.mark.interop

MODULE = Path("/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so")
WRONG, NEW = b"00000000", b"13579024"
_KIND = CardKind("PIV", "pkcs11", MODULE, None, b"", bytes.fromhex("A000000308"), frozenset(), "test")


class Inserted(NamedTuple):
    """A card in the reader, its PIN of digits that nothing else has by chance, and its token's serial number."""

    pad: PinPad
    card: VirtualCard
    pin: bytes
    serial: str

    @property
    def known(self) -> dict[str, Any]:
        """What every order says of it."""
        return {"card": "card-1", "driver": "pkcs11", "guid": token_guid(self.serial), "label": "Card 7"}


@pytest.fixture(scope="module")
def reader(pcscd: PrivatePcscd) -> Iterator[PinPad]:
    """The reader; its socket's path is a short one."""
    with tempfile.TemporaryDirectory() as folder:
        card = full_card(store_in(Path(folder)), EC_KEYS)
        with pin_pad(Path(folder), pcscd, card) as pad:
            yield pad


@pytest.fixture
async def inserted(reader: PinPad, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inserted:
    monkeypatch.setattr(card_map, "load", lambda _machine: CardMap((_KIND,), ()))
    card, pin = full_card(store_in(tmp_path), EC_KEYS), b"%08d" % secrets.randbelow(10**8)
    assert card.transmit(bytes.fromhex("00A4040009A0000003080000100000")).endswith(b"\x90\x00")
    change = bytes.fromhex("0024008010") + FIRST_PIN.ljust(8, b"\xff") + pin
    assert card.transmit(change) == b"\x90\x00"
    card.reset()
    await asyncio.to_thread(reader.remove)
    reader.card = card
    reader.typed.clear()
    reader.asked.clear()
    await asyncio.to_thread(wait_until, _present, "the card in the reader")
    driver = Driver(MODULE)
    token = await _shown(driver)
    await driver.close()
    assert token.pad
    return Inserted(reader, card, pin, token.serial)


def _present() -> bool:
    return any(each.name == READER and each.present for each in scard.list_readers())


async def _shown(driver: Driver) -> Token:
    """The token, as soon as the module shows it: while pcscd still powers the card up it shows none."""
    async with asyncio.timeout(10):
        while not (found := await driver.tokens()):
            pass
    return found[0]


@pytest.fixture
async def agent(inserted: Inserted, tmp_path: Path, portal: FakePortal) -> AsyncIterator[AgentParts]:
    async with running_agent(tmp_path / "home", PcscReadersOfATest()) as running:
        running.trust_portal(portal)
        portal.binding = Binding.NONE
        running.windows.answers = [(None, None)]
        yield running


@pytest.mark.parametrize("typed", [CANCELLED, TIMED_OUT], ids=["cancelled", "timed out"])
async def test_what_ends_at_the_pad_ends_the_order_and_spends_no_try(
    agent: AgentParts, portal: FakePortal, inserted: Inserted, typed: bytes
) -> None:
    """OpenSC's module says the same of both."""
    inserted.pad.typed += [typed, inserted.pin]
    portal.operation = VerifyPin(**inserted.known)
    assert await order(agent, portal) == "pad_cancelled"
    assert len(inserted.pad.typed) == 1
    assert inserted.card.details().pin_tries == 3


async def test_a_change_that_the_module_cant_have_typed_there_is_refused_or_asked_for_in_the_window(
    agent: AgentParts, portal: FakePortal, inserted: Inserted
) -> None:
    policy = PinPolicy(min_length=4)
    portal.operation = ChangePin(**inserted.known, pin_policy=policy, where="pad")
    assert await order(agent, portal) == "pad_refused"
    portal.operation = ChangePin(**inserted.known, pin_policy=policy, where="auto")
    agent.windows.answers = [(None, None), (inserted.pin, NEW)]
    assert await order(agent, portal, "B" * 22) == "finished"
    assert inserted.pad.asked == []
    assert inserted.card.details().pin_tries == 3


async def test_the_signature_keys_pin_is_typed_before_the_signature_until_it_is_right(
    agent: AgentParts, portal: FakePortal, inserted: Inserted
) -> None:
    """After a wrong one this module takes the person for logged out, so the PIN is typed for that, too."""
    pin = inserted.pin
    inserted.pad.typed += [WRONG, pin, WRONG, pin, pin]
    portal.operation = Sign(**inserted.known, document="A text", digest=DIGEST)
    assert await order(agent, portal) == "finished"
    said = [text for text in window_of(agent).texts if "at the keys of the reader" in text]
    assert ["is wrong" in text for text in said] == [False, True, False, True, False]
    receipt = portal.orders[CODE].receipt
    assert receipt is not None
    assert receipt.signature is not None
    check(receipt.signature, DIGEST)
    assert inserted.pad.typed == []
    assert inserted.card.details().pin_tries == 3


async def test_the_modules_process_never_has_the_pin(inserted: Inserted, tmp_path: Path) -> None:
    inserted.pad.typed += [WRONG, inserted.pin]
    module = tmp_path / "module.so"  # by this name no other process has it
    module.symlink_to(MODULE)
    driver = Driver(module)
    await driver.open(await _shown(driver))
    with pytest.raises(InlayError) as caught:
        await driver.verify(None)
    assert caught.value.code == "pkcs11_pin_wrong"
    await driver.verify(None)
    assert [asked.data for asked in inserted.pad.asked] == [bytes.fromhex("0020008008" + 8 * "FF")] * 2
    (process,) = processes_of(module)
    inside = holds(process, inserted.pin, READER.encode())
    await driver.close()
    assert inside == {READER.encode()}  # what it has is found
