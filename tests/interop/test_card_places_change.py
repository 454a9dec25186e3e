"""Cards in real readers that come and go: with the service, with slots, and with the person."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from pathlib import Path

import pytest

from agent import card_places
from agent.card_places import CardPlaces
from agent.pcsc import chuid, scard
from agent.pcsc.slots import read_slots
from agent.vsc.card import VirtualCard
from agent.vsc.vpcd import Attachment, AttachmentState
from protocol.errors import InlayError
from tests.support.card_places import LASTING, active_card, card, empty_readers, places
from tests.support.pcscd import PrivatePcscd
from tests.support.processes import wait_until

__all__ = ["card", "empty_readers", "places"]
pytestmark = pytest.mark.interop
SELECT = bytes.fromhex("00A4040005A000000308")
VERIFY = bytes.fromhex("0020008008313233343536FFFF")


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
    for each in (one, two):
        shown = await places.show(each)
        assert shown.problem is not None
        assert shown.problem.code == "session_locked"
    await places.readmit()
    readers = {await in_a_reader(each) for each in (one, two)}
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
