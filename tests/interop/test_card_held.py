"""A card that something was proved to keeps every other program out, until it has forgotten that: over real pcscd."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator

import pytest

from agent import card_session
from agent.card_session import CardSession
from agent.pcsc import piv_authenticate, piv_cipher, piv_pin, piv_select, scard
from agent.pcsc.apdu import Command
from agent.pcsc.connection import CardConnection
from agent.pcsc.piv_names import ManagementAlgorithm
from protocol.errors import InlayError
from tests.cards.profiles import PROFILES
from tests.cards.simulated import PIN, SimulatedCard, factory_key
from tests.support.pcscd import PrivatePcscd
from tests.support.processes import wait_until
from tests.support.wired_card import WiredCard

pytestmark = pytest.mark.interop

TDES = ManagementAlgorithm.TDES
OTHERS = Command(0xCB, 0x3F, 0xFF, bytes.fromhex("5C035FC10C"))
"""What the other program says, and nobody else: GET DATA of the key history."""
KEEP_ALIVE = bytes.fromhex("00CB3FFF035C017E00")
OUT_SECONDS = 1.0
"""So long the other program is seen not to get in; where nothing keeps it out it needs some milliseconds."""


class SharedCard:
    """A card in the last slot, and another program that is connected to it.

    Attributes:
        card: the card.
        came: set as soon as what the other program said has come to the card.
        found: what was proved to the card then: the PIN, the management key.
        alive: set by the second keep-alive.
    """

    def __init__(self, other: CardConnection, card: SimulatedCard) -> None:
        self.card, self._other = card, other
        self.came, self.alive = threading.Event(), threading.Event()
        self.found: tuple[bool, bool] | None = None
        self._kept = 0

    def transmit(self, apdu: bytes) -> bytes:
        if apdu[1] == OTHERS.instruction and apdu[5:10] == OTHERS.data:
            self.found = self.card.pin_ok, self.card.managed
            self.came.set()
        self._kept += apdu == KEEP_ALIVE
        if self._kept == 2:
            self.alive.set()
        return self.card.transmit(apdu)

    @contextlib.contextmanager
    def other_program(self) -> Iterator[None]:
        """The other program has something to say from here on; in the end it was let in, and found nothing proved."""
        thread = threading.Thread(target=self._other.send, args=(OTHERS,))
        thread.start()
        try:
            yield
            assert self.came.wait(20)
        finally:
            thread.join(20)
        assert self.found == (False, False)


@contextlib.contextmanager
def connected(reader: str) -> Iterator[CardConnection]:
    with scard.Context() as context, CardConnection(context.connect(reader), reader) as card:
        piv_select.select(card)
        yield card


@pytest.fixture
def reader(pcscd: PrivatePcscd) -> str:
    return pcscd.readers[5]


@pytest.fixture
def shared(pcscd: PrivatePcscd, reader: str) -> Iterator[SharedCard]:
    wait_until(lambda: not any(item.present for item in scard.list_readers()), "empty readers")
    card = SimulatedCard(PROFILES[0])
    with WiredCard.simulated(pcscd.vpcd_ports[5], card) as wired:
        wait_until(lambda: scard.list_readers()[5].present, "the card in its reader")
        with connected(reader) as other:
            made = SharedCard(other, card)
            wired.answer = made.transmit
            yield made


def wrong_pin(card: CardConnection) -> None:
    with pytest.raises(InlayError) as caught:
        piv_pin.verify(card, b"000000")
    assert caught.value.code == "card_pin_wrong"


def right_pin(card: CardConnection) -> None:
    piv_pin.verify(card, PIN)


def question(card: CardConnection) -> None:
    piv_authenticate.ask(card, TDES)


def management_key(card: CardConnection) -> None:
    asked = piv_authenticate.ask(card, TDES)
    piv_authenticate.prove(card, asked, piv_cipher.answer(factory_key(TDES), asked))


@pytest.mark.parametrize("proof", [wrong_pin, question, right_pin, management_key])
def test_from_what_is_proved_to_the_release_no_other_program_gets_in(
    shared: SharedCard, reader: str, proof: Callable[[CardConnection], None]
) -> None:
    with connected(reader) as card:
        proof(card)
        proved = shared.card.pin_ok, shared.card.managed
        assert proved == (proof is right_pin, proof is management_key)
        with shared.other_program():
            assert not shared.came.wait(OUT_SECONDS)
            card.keep_alive()
            assert (shared.card.pin_ok, shared.card.managed) == proved
            card.release()


def test_before_anything_is_proved_other_programs_get_in(shared: SharedCard, reader: str) -> None:
    with connected(reader), shared.other_program():
        assert shared.came.wait(20)


async def test_while_the_portal_is_awaited_none_gets_in_and_the_card_is_kept_alive(
    shared: SharedCard, reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(card_session, "KEEP_ALIVE_SECONDS", 0.05)
    session = CardSession(lambda: CardConnection(scard.connect(reader), reader))
    async with session:
        await session.run(piv_select.select)
        await session.run(piv_pin.verify, PIN)
        with shared.other_program():
            try:
                assert await session.awaiting(asyncio.to_thread(shared.alive.wait, 20))
                assert await session.awaiting(asyncio.to_thread(shared.came.wait, OUT_SECONDS)) is False
                assert shared.card.pin_ok
            finally:
                await session.close()
