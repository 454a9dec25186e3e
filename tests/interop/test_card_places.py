"""A finished card in a real reader: pcscd, vpcd, and the card's own CHUID read back."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import keys_system
from agent.card_places import CardPlaces
from agent.handlers import list_readers
from agent.order_ports import PrivateRequest
from agent.pcsc import chuid, scard
from agent.pcsc.slots import read_slots
from agent.ports import UserEnvironment
from agent.vsc import personalise
from agent.vsc.card import VirtualCard
from agent.vsc.store import CardStore
from protocol.errors import InlayError
from tests.support import short_alarm
from tests.support.agent_parts import CHEAP, AgentParts, cheap_cards, running_agent
from tests.support.card_places import LASTING, card, empty_readers, places
from tests.support.certificates import ThrowAwayCA
from tests.support.fake_portal import FakePortal
from tests.support.pcscd import PrivatePcscd
from tests.support.processes import wait_until

__all__ = ["card", "empty_readers", "places"]
pytestmark = pytest.mark.interop
_QUITS_SECONDS = short_alarm.SECONDS + 3
"""pcscd --auto-exit quits 60 s after its last client, here after five, and looks once a second."""


@pytest.fixture
def stopped_pcscd(pcscd: PrivatePcscd) -> Iterator[None]:
    """The run's pcscd is away, and back afterwards."""
    LASTING.submit(pcscd.stop).result()
    yield
    LASTING.submit(pcscd.start).result()


async def test_without_pcscd_it_is_said(stopped_pcscd: None, card: VirtualCard, places: CardPlaces) -> None:
    shown = await places.show(card)
    assert shown.reader is None
    assert shown.problem is not None
    assert shown.problem.code in ("pcsc_no_service", "pcsc_no_virtual_reader")


def test_the_shipped_slots_are_found(pcscd: PrivatePcscd) -> None:
    slots = read_slots()
    assert tuple(slot.port for slot in slots[:8]) == pcscd.vpcd_ports
    for slot, reader in zip(slots, pcscd.readers, strict=False):
        assert slot.is_reader(reader)
        assert [item for item in slots if item.is_reader(reader)] == [slot]


async def test_a_card_is_shown_and_taken_out(
    pcscd: PrivatePcscd, card: VirtualCard, places: CardPlaces
) -> None:
    shown = await places.show(card)
    assert shown.problem is None
    assert shown.reader == pcscd.readers[0]
    assert await asyncio.to_thread(chuid.find, card.guid.hex()) == shown.reader
    assert await asyncio.to_thread(chuid.find, "00" * 16) is None
    await places.hide(card.card_id)
    assert await asyncio.to_thread(chuid.find, card.guid.hex()) is None
    with pytest.raises(InlayError) as caught:
        await asyncio.to_thread(chuid.shows, shown.reader, card.guid.hex())
    assert caught.value.code in ("pcsc_card_removed", "pcsc_failed")  # pcscd may not have looked yet


async def test_a_slot_that_holds_another_card_is_passed_over(
    pcscd: PrivatePcscd, card: VirtualCard, places: CardPlaces, tmp_path: Path
) -> None:
    other = CardPlaces()
    store = CardStore(
        tmp_path / "others", keys_system.open_device_secret("file", tmp_path / "s2", allow_file=True)
    )
    foreign = personalise.create(
        store, label="Other", pin=bytearray(b"123456"), puk=bytearray(b"12345678"), cost=CHEAP
    )
    personalise.activate(foreign)
    try:
        assert (await other.show(foreign)).reader == pcscd.readers[0]
        assert (await places.show(card)).reader == pcscd.readers[1]
    finally:
        await other.close()


async def test_a_foreign_card_in_our_slot_is_noticed(
    pcscd: PrivatePcscd, card: VirtualCard, places: CardPlaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody is in the slot, and PC/SC hasn't seen it yet when we looked for a free one."""
    monkeypatch.setattr(chuid, "shows", lambda _reader, _guid: False)
    shown = await places.show(card)
    assert shown.reader is None
    assert shown.problem is not None
    assert shown.problem.code == "pcsc_foreign_card"
    assert await asyncio.to_thread(chuid.find, card.guid.hex()) is None


async def test_a_restarted_pcscd_gets_its_card_back(
    pcscd: PrivatePcscd, card: VirtualCard, places: CardPlaces
) -> None:
    await places.show(card)
    await asyncio.get_running_loop().run_in_executor(LASTING, pcscd.restart)
    async with asyncio.timeout(30):
        while True:
            try:
                if await asyncio.to_thread(chuid.find, card.guid.hex()):
                    break
            except InlayError as error:
                assert error.code == "pcsc_no_service"  # noqa: PT017 - the only one on the way
            await asyncio.sleep(0.1)
    shown = await places.where(card.card_id)
    assert shown.problem is None


@pytest.fixture
def quitting_pcscd(pcscd: PrivatePcscd, tmp_path: Path) -> Iterator[None]:
    """The run's pcscd quits after its last client, as Debian's unit has it, and sooner than it was built to."""
    _restart_quitting(pcscd, short_alarm.build(tmp_path))
    yield
    _restart_quitting(pcscd, None)


def _restart_quitting(pcscd: PrivatePcscd, preloaded: Path | None) -> None:
    LASTING.submit(pcscd.stop).result()
    pcscd.auto_exit, pcscd.preloaded = preloaded is not None, preloaded
    LASTING.submit(pcscd.start).result()


async def test_a_service_that_quits_without_clients_stays_while_a_card_is_in(
    quitting_pcscd: None, pcscd: PrivatePcscd, card: VirtualCard, places: CardPlaces
) -> None:
    """Nobody but us asks for it; without our card it goes, which shows that it would have gone."""
    shown = await places.show(card)
    assert shown.problem is None
    await asyncio.sleep(_QUITS_SECONDS)  # what must not happen can't be waited for
    assert pcscd.running
    assert await asyncio.to_thread(chuid.find, card.guid.hex()) == shown.reader
    await places.hide(card.card_id)
    await asyncio.to_thread(wait_until, lambda: not pcscd.running, "pcscd's own end")


async def test_a_whole_order_ends_in_a_reader(
    pcscd: PrivatePcscd, tmp_path: Path, https_ca: ThrowAwayCA, monkeypatch: pytest.MonkeyPatch
) -> None:
    cheap_cards(monkeypatch)
    async with FakePortal(https_ca) as portal, running_agent(tmp_path / "home") as agent:
        agent.trust_portal(portal)
        places = CardPlaces()
        monkeypatch.setattr(agent.cards, "_places", places)
        try:
            await agent.submit(portal).wait()
            [row] = await agent.cards.overview()
            assert row["reader"] == pcscd.readers[0]
            assert row["problem"] is None
            opensc = await asyncio.to_thread(pcscd.run, ["opensc-tool", "-l"])
            assert pcscd.readers[0] in opensc.stdout
            await _listed(agent, row["reader"], row["label"])
        finally:
            await places.close()


async def _listed(agent: AgentParts, reader: str, label: str) -> None:
    services = agent.services()
    found = await list_readers.handle(services, PrivateRequest({}, UserEnvironment({})))
    [row] = [item for item in found["readers"] if item["name"] == reader]
    assert row["label"] == label
    assert row["card"] is True
    assert row["atr"].startswith("3B8B80")


def test_codes_of_pcsc_have_their_rows(pcscd: PrivatePcscd) -> None:
    with scard.Context() as context:
        with pytest.raises(InlayError) as caught:
            context.connect(pcscd.readers[7])
        assert caught.value.code == "pcsc_card_removed"
        with pytest.raises(InlayError) as caught:
            context.connect("No such reader")
        assert caught.value.code == "pcsc_failed"
    with pytest.raises(InlayError):
        context.readers()


@pytest.fixture
def hung_slot(pcscd: PrivatePcscd) -> Iterator[None]:
    """A program sits in the first slot and never answers as a card."""
    with socket.create_connection(("127.0.0.1", pcscd.vpcd_ports[0])):
        yield


async def test_a_slot_where_somebody_sits_silently_is_passed_over(
    pcscd: PrivatePcscd,
    hung_slot: None,
    card: VirtualCard,
    places: CardPlaces,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agent.card_places._PRESENT_SECONDS", 2.0)
    assert (await places.show(card)).reader not in (None, pcscd.readers[0])
