"""A reader that is pulled out of the machine in the middle of a command: real pcscd, and a driver that says so.

The driver answers IFD_NO_SUCH_DEVICE, of which pcscd makes SCARD_E_READER_UNAVAILABLE, and no card in a reader whose
state it doesn't know. It strikes readers off its list that it has by USB alone: this one stays there, also when pcscd
is asked to look anew (``pcscd --hotplug``), which does nothing where it is built with libudev, as Debian's is. It
vanishes when it is taken out of the configuration and pcscd is started again; that is done here, too.
"""

from __future__ import annotations

import asyncio
import queue
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from agent.pcsc import piv_objects, piv_select, scard
from agent.pcsc.connection import CardConnection
from agent.pcsc.monitor import Monitor
from agent.pcsc.reader_events import CardInserted, CardRemoved, Look, ReaderAdded, ReaderRemoved, changes
from agent.vsc.card import VirtualCard
from protocol.errors import InlayError
from tests.support.agent_parts import CODE, AgentParts, PcscReadersOfATest
from tests.support.fake_order import AUTHENTICATION
from tests.support.fake_portal import FakePortal
from tests.support.pcscd import PrivatePcscd
from tests.support.physical_orders import encode, encoding_agent, order
from tests.support.pin_pad_reader import READER, PinPad, pin_pad
from tests.support.processes import wait_until
from tests.support.virtual_cards import PIN, factory_card

pytestmark = pytest.mark.interop
NO_READER = "There is no card reader. Connect one."
SAID = "Put the card “Card 7” back in the reader."
GENERATE, PUT_DATA, VERIFY = 0x47, 0xDB, 0x20


@pytest.fixture
def card(tmp_path: Path) -> VirtualCard:
    return factory_card(tmp_path)


@pytest.fixture
def reader(pcscd: PrivatePcscd, card: VirtualCard) -> Iterator[PinPad]:
    with tempfile.TemporaryDirectory() as folder, pin_pad(Path(folder), pcscd, card) as running:
        wait_until(there, "the card")
        yield running


@pytest.fixture
async def agent(
    tmp_path: Path, reader: PinPad, portal: FakePortal, no_keystore: None
) -> AsyncIterator[AgentParts]:
    async with encoding_agent(tmp_path / "home", PcscReadersOfATest(), portal) as running:
        running.windows.answers = [(None, None), (PIN, None), (PIN, None)]
        yield running


def there() -> bool:
    """Whether the card is seen in the reader."""
    return any(each.name == READER and each.present for each in scard.list_readers())


def names() -> set[str]:
    """The readers that pcscd has."""
    return {each.name for each in scard.list_readers()}


def gone() -> bool:
    """Whether pcscd has noticed."""
    return not there()


def unplugged_at(reader: PinPad, instruction: int, when: str) -> list[bytes]:
    """Pull the reader out at the first such command that brings data; the list of all that came."""
    came: list[bytes] = []

    def unplugs(apdu: bytes) -> str | None:
        came.append(apdu)
        wanted = [each for each in came if each[1] == instruction and len(each) > 6]
        return when if wanted == [apdu] and reader.plugged else None

    reader.unplugs = unplugs
    return came


def test_the_card_in_it_is_one_that_was_removed(reader: PinPad) -> None:
    with scard.Context() as context, CardConnection(context.connect(READER), READER) as card:
        piv_select.select(card)
        unplugged_at(reader, 0xCB, "before")
        for _ in range(2):  # it stays so
            with pytest.raises(InlayError) as caught:
                piv_objects.read_chuid(card)
            assert caught.value.code == "pcsc_card_removed"
        wait_until(gone, "no card")
    reader.plugged = True
    wait_until(there, "the card, back")


@pytest.mark.parametrize(
    ("instruction", "when"),
    [(VERIFY, "before"), (VERIFY, "after"), (GENERATE, "after"), (PUT_DATA, "before")],
    ids=["before VERIFY", "after VERIFY", "after GENERATE", "before PUT DATA"],
)
async def test_an_order_waits_for_the_reader_and_goes_on(
    agent: AgentParts,
    portal: FakePortal,
    reader: PinPad,
    card: VirtualCard,
    instruction: int,
    when: str,
) -> None:
    came = unplugged_at(reader, instruction, when)
    encode(portal, AUTHENTICATION, guid=card.guid.hex())
    ordered = asyncio.ensure_future(order(agent, portal))
    await asyncio.to_thread(wait_until, lambda: not reader.plugged and gone(), "no card")
    await agent.windows.opened[0].until_said(SAID)
    assert not ordered.done()
    reader.plugged = True
    assert await ordered == "finished", portal.orders[CODE].undone
    details = card.details()
    assert details.pin_tries == 3
    asked = sum(prompt.known is not None for prompt in agent.windows.opened[0].asked)
    assert asked == (2 if instruction == VERIFY else 1)  # a PIN whose answer never came is typed anew
    assert len([apdu for apdu in came if apdu[1] == instruction and len(apdu) > 6]) > 1


@pytest.mark.parametrize(("instruction", "when"), [(GENERATE, "after"), (PUT_DATA, "before")])
async def test_an_order_waits_for_a_reader_that_vanishes_and_comes_back(
    agent: AgentParts,
    portal: FakePortal,
    pcscd: PrivatePcscd,
    reader: PinPad,
    card: VirtualCard,
    tmp_path: Path,
    instruction: int,
    when: str,
) -> None:
    came = unplugged_at(reader, instruction, when)
    encode(portal, AUTHENTICATION, guid=card.guid.hex())
    ordered = asyncio.ensure_future(order(agent, portal))
    await asyncio.to_thread(wait_until, lambda: not reader.plugged, "the reader, pulled out")
    await asyncio.to_thread(configured, pcscd, without(tmp_path))
    await agent.windows.opened[0].until_said(NO_READER)
    assert READER not in names()
    assert not ordered.done()
    reader.plugged = True
    await asyncio.to_thread(configured, pcscd, None)
    assert await ordered == "finished", portal.orders[CODE].undone
    assert card.details().pin_tries == 3
    assert len([apdu for apdu in came if apdu[1] == instruction and len(apdu) > 6]) > 1


def test_the_monitor_tells_of_a_reader_that_vanishes_and_of_its_card(
    pcscd: PrivatePcscd, reader: PinPad, tmp_path: Path
) -> None:
    told: queue.Queue[Look] = queue.Queue()
    monitor = Monitor(told.put)
    monitor.start()
    try:
        before = look_until(told, has_card)
        configured(pcscd, without(tmp_path))
        gone_now = look_until(told, lambda look: look.problem is None and not look.readers)
        assert changes(before, gone_now)[:1] == (CardRemoved(READER),)
        assert ReaderRemoved(READER) in changes(before, gone_now)
        configured(pcscd, None)
        after = look_until(told, has_card)
        came = [event for event in changes(gone_now, after) if getattr(event, "reader", "") == READER]
        assert [type(event) for event in came] == [ReaderAdded, CardInserted]
    finally:
        monitor.stop()


def test_a_reader_that_is_pulled_out_is_no_reader_even_where_pcscd_lists_it(reader: PinPad) -> None:
    told: queue.Queue[Look] = queue.Queue()
    monitor = Monitor(told.put)
    monitor.start()
    try:
        before = look_until(told, has_card)
        reader.plugged = False
        pulled = look_until(told, lambda look: not has_card(look))
        assert [each.name for each in pulled.readers] == [
            each.name for each in before.readers if each.name != READER
        ]
        assert READER in names()
        reader.plugged = True
        back = look_until(told, has_card)
        assert [type(event) for event in changes(pulled, back)] == [ReaderAdded, CardInserted]
    finally:
        monitor.stop()


def without(tmp_path: Path) -> Path:
    """A configuration without any reader."""
    folder = tmp_path / "no readers"
    folder.mkdir()
    return folder


def configured(pcscd: PrivatePcscd, others: Path | None) -> None:
    """Start pcscd again with other readers, or with its own."""
    pcscd.others = others
    pcscd.restart()


def has_card(look: Look) -> bool:
    return any(each.name == READER and each.present for each in look.readers)


def look_until(told: queue.Queue[Look], condition: Callable[[Look], bool]) -> Look:
    """The first look that is so."""
    while not condition(look := told.get(timeout=30)):
        pass
    return look
