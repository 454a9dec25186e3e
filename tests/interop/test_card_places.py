"""A finished card in a real reader: pcscd, vpcd, and the card's own CHUID read back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent import card_places, keys_system
from agent.card_places import CardPlaces
from agent.handlers import list_readers
from agent.order_ports import PrivateRequest
from agent.pcsc import chuid, scard
from agent.pcsc.slots import read_slots
from agent.ports import UserEnvironment
from agent.vsc import personalise
from agent.vsc.card import VirtualCard
from agent.vsc.store import CardStore
from agent.vsc.vpcd import Attachment, AttachmentState
from protocol.errors import InlayError
from tests.support.agent_parts import CHEAP, AgentParts, cheap_cards, running_agent
from tests.support.certificates import ThrowAwayCA
from tests.support.fake_portal import FakePortal
from tests.support.pcscd import PrivatePcscd
from tests.support.processes import wait_until

pytestmark = pytest.mark.interop

SELECT = bytes.fromhex("00A4040005A000000308")
VERIFY = bytes.fromhex("0020008008313233343536FFFF")
LASTING = ThreadPoolExecutor(1)
"""pcscd ends with the thread that started it (PR_SET_PDEATHSIG): this one lasts as long as the test run."""
_QUITS_SECONDS = 70
"""pcscd --auto-exit quits 60 s after its last client, and looks once a second."""


@pytest.fixture
def card(tmp_path: Path) -> VirtualCard:
    return active_card(tmp_path)


def active_card(folder: Path) -> VirtualCard:
    secret = keys_system.open_device_secret("file", folder / "secret", allow_file=True)
    store = CardStore(folder / "cards", secret)
    made = personalise.create(
        store, label="Test", pin=bytearray(b"123456"), puk=bytearray(b"12345678"), cost=CHEAP
    )
    personalise.activate(made)
    return made


@pytest.fixture(autouse=True)
def empty_readers(request: pytest.FixtureRequest) -> None:
    """pcscd looks every 400 ms: what an earlier test took out may still seem to be there."""
    if "pcscd" in request.fixturenames:
        request.getfixturevalue("pcscd")
        wait_until(lambda: not any(reader.present for reader in scard.list_readers()), "empty readers")


@pytest.fixture
def stopped_pcscd(pcscd: PrivatePcscd) -> Iterator[None]:
    """The run's pcscd is away, and back afterwards."""
    LASTING.submit(pcscd.stop).result()
    yield
    LASTING.submit(pcscd.start).result()


@pytest.fixture
async def places() -> AsyncIterator[CardPlaces]:
    running = CardPlaces()
    yield running
    await running.close()


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
def quitting_pcscd(pcscd: PrivatePcscd) -> Iterator[None]:
    """The run's pcscd quits 60 s after its last client, as Debian's unit has it."""
    _restart_quitting(pcscd, quits=True)
    yield
    _restart_quitting(pcscd, quits=False)


def _restart_quitting(pcscd: PrivatePcscd, *, quits: bool) -> None:
    LASTING.submit(pcscd.stop).result()
    pcscd.auto_exit = quits
    LASTING.submit(pcscd.start).result()


@pytest.mark.timeout(240)
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
    await asyncio.to_thread(wait_until, lambda: not pcscd.running, "pcscd's own end", seconds=_QUITS_SECONDS)


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


# --- coming and going


async def in_a_reader(card: VirtualCard) -> str:
    """Wait until PC/SC shows the card, which nobody asked for; the reader's name."""
    found: list[str] = []

    def looked() -> bool:
        with contextlib.suppress(InlayError):  # the service is on its way
            found.extend(filter(None, [chuid.find(card.guid.hex())]))
        return bool(found)

    await asyncio.to_thread(wait_until, looked, "the card in a reader", seconds=40)
    return found[0]


async def test_a_service_that_was_missing_brings_the_card_when_it_comes(
    pcscd: PrivatePcscd, card: VirtualCard, places: CardPlaces
) -> None:
    """Not there at first, then killed, then there again: nothing is asked for, and no timer is left."""
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(LASTING, pcscd.stop)
    try:
        shown = await places.show(card)
        assert shown.reader is None
        assert places._returning is not None
    finally:
        await loop.run_in_executor(LASTING, pcscd.start)
    assert await in_a_reader(card) == pcscd.readers[0]
    await asyncio.wait_for(places._returning, 10)
    await loop.run_in_executor(LASTING, pcscd.kill)
    await loop.run_in_executor(LASTING, pcscd.start)
    assert await in_a_reader(card) == pcscd.readers[0]
    assert places._returning.done()


async def test_a_card_without_a_slot_comes_up_when_one_is_free(
    pcscd: PrivatePcscd, tmp_path: Path, places: CardPlaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of ours goes: at once. Said per card, with who has the readers."""
    monkeypatch.setattr(card_places, "_FIRST_RETRY", 60.0)
    monkeypatch.setattr(card_places, "_LAST_RETRY", 60.0)
    monkeypatch.setattr(places, "_slots", lambda: read_slots()[:2])
    one, two, three = (active_card(tmp_path) for _ in range(3))
    assert (await places.show(one)).problem is None
    assert (await places.show(two)).problem is None
    missing = await places.show(three)
    assert missing.problem is not None
    assert missing.problem.code == "pcsc_no_free_slot"
    assert missing.problem.fields == {"count": 2, "own": 2, "others": 0}
    assert (await places.where(one.card_id)).problem is None
    await places.hide(one.card_id)
    assert await in_a_reader(three) == pcscd.readers[0]


async def test_slots_that_another_user_has_are_passed_over_and_said(
    pcscd: PrivatePcscd, card: VirtualCard, places: CardPlaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told by whose connections they are, not by what pcscd has noticed; the card comes when one is free."""
    monkeypatch.setattr(places, "_slots", lambda: read_slots()[:2])
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    with contextlib.ExitStack() as others:
        for port in pcscd.vpcd_ports[:2]:
            others.enter_context(socket.create_connection(("127.0.0.1", port)))
        missing = await places.show(card)
        assert missing.problem is not None
        assert missing.problem.code == "pcsc_no_free_slot"
        assert missing.problem.fields == {"count": 2, "own": 0, "others": 2}
        assert "2 by others" in missing.problem.why
    assert await in_a_reader(card) in pcscd.readers[:2]


async def test_all_go_while_nobody_is_there_and_come_back(
    pcscd: PrivatePcscd, tmp_path: Path, places: CardPlaces
) -> None:
    """Taken out with what was typed; nothing comes meanwhile; all are back afterwards, locked."""
    one, two = active_card(tmp_path), active_card(tmp_path)
    reader = (await places.show(one)).reader
    assert reader is not None
    await asyncio.to_thread(_log_in, reader)
    assert one.unlocked
    await places.withdraw(InlayError("session_locked"))
    assert not one.unlocked
    assert await asyncio.to_thread(chuid.find, one.guid.hex()) is None
    for card in (one, two):
        shown = await places.show(card)
        assert shown.problem is not None
        assert shown.problem.code == "session_locked"
    await places.readmit()
    readers = {await in_a_reader(card) for card in (one, two)}
    assert len(readers) == 2
    assert not one.unlocked


async def test_nobody_there_ends_a_wait_for_a_reader(
    pcscd: PrivatePcscd, card: VirtualCard, places: CardPlaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A screen that is locked just while the card is on its way into a reader."""
    waiting = asyncio.Event()

    async def never(_self: Attachment, *_states: AttachmentState) -> AttachmentState:
        waiting.set()
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(Attachment, "wait_for", never)
    showing = asyncio.create_task(places.show(card))
    await waiting.wait()
    async with asyncio.timeout(20):
        await places.withdraw(InlayError("session_locked"))
        shown = await showing
    assert shown.problem is not None
    assert shown.problem.code == "session_locked"


async def test_a_service_that_hangs_keeps_no_card_in_a_locked_computer(
    pcscd: PrivatePcscd, tmp_path: Path, places: CardPlaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another card is on its way into a reader, and PC/SC doesn't answer."""
    one, two = active_card(tmp_path), active_card(tmp_path)
    assert (await places.show(one)).problem is None
    hangs, go_on = threading.Event(), threading.Event()

    def hang() -> list[scard.ReaderState]:
        hangs.set()
        assert go_on.wait(20)
        return []

    with monkeypatch.context() as patched:
        patched.setattr(scard, "list_readers", hang)
        showing = asyncio.create_task(places.show(two))
        await asyncio.to_thread(hangs.wait, 20)
        leaving = asyncio.create_task(places.withdraw(InlayError("session_locked")))
        closed = places._places[one.card_id].attachment.wait_for(AttachmentState.CLOSED)
        await asyncio.wait_for(closed, 10)
        assert not leaving.done()
        go_on.set()
        await asyncio.gather(leaving, showing)


async def test_who_is_back_while_cards_still_go_finds_them_in_readers(
    pcscd: PrivatePcscd, card: VirtualCard, places: CardPlaces
) -> None:
    """Whichever of the two comes first, in any order."""
    for _ in range(3):
        await places.show(card)
        leaving = asyncio.create_task(places.withdraw(InlayError("session_locked")))
        await asyncio.sleep(0)
        await asyncio.gather(leaving, places.readmit())
        await in_a_reader(card)
        assert (await places.where(card.card_id)).problem is None


async def test_a_card_that_is_removed_is_not_shown_again(
    pcscd: PrivatePcscd, card: VirtualCard, places: CardPlaces
) -> None:
    await places.show(card)
    await places.hide(card.card_id, for_good=True)
    assert (await places.show(card)).reader is None
    await places.readmit()
    assert await asyncio.to_thread(chuid.find, card.guid.hex()) is None


async def test_nothing_leaks_however_often_it_comes_and_goes(
    pcscd: PrivatePcscd, card: VirtualCard, places: CardPlaces
) -> None:
    """Tasks and descriptors are as many after six rounds as after two."""
    counts = []
    for _ in range(6):
        await places.show(card)
        await places.withdraw(InlayError("session_inactive"))
        await places.readmit()
        assert (await places.where(card.card_id)).problem is None
        await places.hide(card.card_id)
        counts.append((len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd"))))
    assert counts[-1] == counts[1]


async def test_polls_and_other_readers_go_on_while_a_key_is_made(
    pcscd: PrivatePcscd, card: VirtualCard, places: CardPlaces
) -> None:
    """RSA-4096, which takes seconds, through PC/SC: the card stays present, and its answer comes whole.

    Withdrawn in the middle of it, the card goes when the key has been made and told.
    """
    reader = (await places.show(card)).reader
    assert reader is not None
    begun = threading.Event()
    making = asyncio.create_task(asyncio.to_thread(_make_key, reader, card, begun))
    await asyncio.to_thread(begun.wait, 20)
    looks = 0
    while not making.done() and looks < 5:
        states = {item.name: item.present for item in await asyncio.to_thread(scard.list_readers)}
        assert states[reader]
        looks += 1
        await asyncio.sleep(0.1)
    await places.withdraw(InlayError("session_locked"))
    public = await making
    assert len(public) > 512
    [slot] = card.details().slots
    assert slot.algorithm == "RSA-4096"
    assert looks > 0


def _log_in(reader: str) -> None:
    with scard.Context() as context, context.connect(reader) as connection:
        _ask(connection, SELECT)
        _ask(connection, VERIFY)


def _make_key(reader: str, card: VirtualCard, begun: threading.Event) -> bytes:
    """Make an RSA-4096 key in 9A, as a program of somebody else's does."""
    with scard.Context() as context, context.connect(reader) as connection:
        _ask(connection, SELECT)
        algorithm = card.management_algorithm
        ask = bytes((0x00, 0x87, algorithm, 0x9B, 0x04, 0x7C, 0x02, 0x81, 0x00, 0x00))
        proof = card.answer_management_challenge(_ask(connection, ask)[4:])
        inner = bytes((0x82, len(proof))) + proof
        body = bytes((0x7C, len(inner))) + inner
        _ask(connection, bytes((0x00, 0x87, algorithm, 0x9B, len(body))) + body)
        begun.set()
        return _ask(connection, bytes.fromhex("0047009A05AC0380011600"))


def _ask(connection: scard.Connection, apdu: bytes) -> bytes:
    """The whole answer of a command that succeeds."""
    answer = connection.transmit(apdu)
    while answer[-2] == 0x61:
        answer = answer[:-2] + connection.transmit(bytes((0x00, 0xC0, 0x00, 0x00, answer[-1])))
    assert answer[-2:] == b"\x90\x00", answer[-2:].hex()
    return answer[:-2]
