"""The attachment against a vpcd of the test's own: framing, polls, slow commands, back-off, refusal."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.vsc import vpcd, vpcd_session
from agent.vsc.card import ATR, VirtualCard
from agent.vsc.personalise import activate
from agent.vsc.vpcd import AttachmentState, CardNotActive, attach
from agent.vsc.vpcd_session import Frames, frame
from tests.support.virtual_cards import empty_card, store_in

SELECT = bytes.fromhex("00A4040005A000000308")
VERIFY = bytes.fromhex("0020008008313233343536FFFF")
VERSION = bytes.fromhex("00FD000000")
POWER_ON, ATR_WANTED = b"\x01", b"\x04"


class Reader:
    """What vpcd is to a card: listens, takes connections one after the other."""

    def __init__(self) -> None:
        self.connections: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        self.port = 0
        self._server: asyncio.Server | None = None

    async def listen(self) -> None:
        """Listen, on the same port as before if there was one."""
        self._server = await asyncio.start_server(self._take, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def connection(self) -> Slot:
        """The next connection."""
        return Slot(*await asyncio.wait_for(self.connections.get(), 10))

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.connections.put((reader, writer))


class Slot:
    """One connection, seen from vpcd's side."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def send(self, message: bytes) -> None:
        """Send one message."""
        self._writer.write(frame(message))

    async def answer(self) -> bytes:
        """Wait for one."""
        length = int.from_bytes(await asyncio.wait_for(self._reader.readexactly(2), 10), "big")
        return await self._reader.readexactly(length)

    def send_bytes(self, data: bytes) -> None:
        """Send a part of a message, or several at once."""
        self._writer.write(data)

    async def ask(self, message: bytes) -> bytes:
        """Both."""
        self.send(message)
        return await self.answer()

    async def hang_up(self) -> None:
        """Close."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):  # the card's side may have cut it first
            await self._writer.wait_closed()

    async def ended(self) -> None:
        """Wait until the card's side has closed."""
        assert await asyncio.wait_for(self._reader.read(1), 10) == b""
        await self.hang_up()


@pytest.fixture
async def reader() -> AsyncIterator[Reader]:
    """A listening reader."""
    listening = Reader()
    await listening.listen()
    yield listening
    await listening.close()


@pytest.fixture
def card(tmp_path: Path) -> VirtualCard:
    """An active card without keys."""
    made = empty_card(store_in(tmp_path))
    activate(made)
    return made


@given(
    messages=st.lists(st.binary(max_size=300), max_size=8),
    cuts=st.lists(st.integers(1, 50), max_size=60),
)
def test_frames_come_whole_however_they_are_cut(messages: list[bytes], cuts: list[int]) -> None:
    """Any messages, cut anywhere, come out the same."""
    stream, frames, found = b"".join(map(frame, messages)), Frames(), []
    for cut in [*cuts, len(stream)]:
        piece, stream = stream[:cut], stream[cut:]
        found += frames.feed(piece)
    assert found == messages


async def test_card_being_made_is_never_attached(tmp_path: Path) -> None:
    """Only an active card is shown to other programs."""
    with pytest.raises(CardNotActive) as refused:
        attach(empty_card(store_in(tmp_path)), 1)
    assert refused.value.code == "wrong_state"


async def test_poll_is_answered_while_a_slow_command_runs(
    reader: Reader, card: VirtualCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ATR is there at once, a further command waits its turn, and all answers come in order."""
    go_on = threading.Event()
    transmit = card.transmit

    def slow(apdu: bytes) -> bytes:
        if apdu == VERIFY:
            assert go_on.wait(10)
        return transmit(apdu)

    monkeypatch.setattr(card, "transmit", slow)
    attachment = attach(card, reader.port)
    slot = await reader.connection()
    slot.send(POWER_ON)
    assert (await slot.ask(SELECT)).endswith(b"\x90\x00")
    slot.send(VERIFY)
    slot.send(VERSION)
    assert await slot.ask(ATR_WANTED) == ATR
    go_on.set()
    assert await slot.answer() == b"\x90\x00"
    assert await slot.answer() == b"\x05\x07\x01\x90\x00"
    await attachment.close()
    await slot.ended()


async def test_messages_may_come_in_pieces_and_together(reader: Reader, card: VirtualCard) -> None:
    """A length whose content is not there yet, half a length behind a whole message: the answers are the same."""
    attachment = attach(card, reader.port)
    slot = await reader.connection()
    slot.send(POWER_ON)
    assert await slot.ask(ATR_WANTED) == ATR
    whole = frame(SELECT)
    for cut in (1, 2, 5):
        slot.send_bytes(frame(ATR_WANTED) + whole[:cut])
        assert await slot.answer() == ATR  # whatever was sent with it has been read, too
        slot.send_bytes(whole[cut:] + frame(VERSION))
        assert (await slot.answer()).endswith(b"\x90\x00")
        assert await slot.answer() == bytes.fromhex("050701") + b"\x90\x00"
    await attachment.close()
    await slot.hang_up()


async def test_power_off_logs_out(reader: Reader, card: VirtualCard) -> None:
    """Power taken and given: nothing selected, nobody logged in."""
    attachment = attach(card, reader.port)
    slot = await reader.connection()
    slot.send(POWER_ON)
    await slot.ask(SELECT)
    assert await slot.ask(VERIFY) == b"\x90\x00"
    for control in (b"\x00", POWER_ON, b"\x02"):
        slot.send(control)
    assert await slot.ask(VERSION) == b"\x69\x85"
    await slot.ask(SELECT)
    assert await slot.ask(bytes.fromhex("00200080")) == b"\x63\xc3"
    assert await slot.ask(b"") == b"\x67\x00"
    assert await slot.ask(b"\x05") == b"\x67\x00"
    await attachment.close()
    await slot.ended()


async def test_attached_again_when_the_reader_comes_back(
    reader: Reader, card: VirtualCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hung up, and nobody there for a while: waiting is said, then the card is present again, logged out."""
    monkeypatch.setattr(vpcd, "_FIRST_DELAY", 0.001)
    states: list[AttachmentState] = []
    attachment = attach(card, reader.port, on_state=states.append)
    slot = await reader.connection()
    slot.send(POWER_ON)
    await slot.ask(SELECT)
    await slot.ask(VERIFY)
    await reader.close()
    await slot.hang_up()
    await attachment.wait_for(AttachmentState.WAITING)
    await reader.listen()
    slot = await reader.connection()
    assert await slot.ask(ATR_WANTED) == ATR
    await attachment.wait_for(AttachmentState.PRESENT)
    assert await slot.ask(VERSION) == b"\x69\x85"
    await attachment.close()
    await slot.ended()
    connected, present = AttachmentState.CONNECTED, AttachmentState.PRESENT
    assert states == [
        connected, present, AttachmentState.WAITING, connected, present, AttachmentState.CLOSED,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "end"),
    [(False, AttachmentState.FOREIGN), (OSError("reader"), AttachmentState.UNCHECKED)],
)
async def test_unconfirmed_card_is_detached(
    reader: Reader, card: VirtualCard, answer: bool | OSError, end: AttachmentState
) -> None:
    """PC/SC shows another card, or the check fails: detached for good, and said which."""

    async def confirm(guid: str) -> bool:
        assert guid == card.guid.hex()
        if isinstance(answer, OSError):
            raise answer
        return answer

    attachment = attach(card, reader.port, confirm=confirm)
    slot = await reader.connection()
    slot.send(POWER_ON)
    assert await attachment.wait_for(end) is end
    await slot.ended()
    await attachment.close()
    assert attachment.state is end


async def test_flood_is_cut(reader: Reader, card: VirtualCard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands without end, none waited for: the connection is dropped, memory stays bounded."""
    go_on = threading.Event()
    monkeypatch.setattr(card, "transmit", lambda apdu: b"\x90\x00" if go_on.wait(10) else b"")
    attachment = attach(card, reader.port)
    slot = await reader.connection()
    assert await slot.ask(ATR_WANTED) == ATR
    await attachment.wait_for(AttachmentState.PRESENT)
    for _ in range(40):
        slot.send(VERIFY)
    await attachment.wait_for(AttachmentState.WAITING)
    go_on.set()
    await attachment.close()
    await slot.hang_up()


# --- taken out


async def test_a_command_under_way_is_answered_before_the_card_goes(
    reader: Reader, card: VirtualCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow one too; polls are answered meanwhile, and nothing new is begun."""
    go_on, begun, seen = threading.Event(), threading.Event(), []

    def slow(apdu: bytes) -> bytes:
        seen.append(apdu)
        begun.set()
        assert go_on.wait(10)
        return b"\x90\x00"

    attachment = attach(card, reader.port)
    slot = await reader.connection()
    slot.send(POWER_ON)
    await slot.ask(ATR_WANTED)
    monkeypatch.setattr(card, "transmit", slow)
    slot.send(VERIFY)
    await asyncio.to_thread(begun.wait, 10)
    closing = asyncio.create_task(attachment.close())
    assert await slot.ask(ATR_WANTED) == ATR
    slot.send(VERSION)
    assert not closing.done()
    go_on.set()
    assert await slot.answer() == b"\x90\x00"
    await closing
    await slot.ended()
    assert seen == [VERIFY]


async def test_an_answer_in_pieces_is_fetched_before_the_card_goes(reader: Reader, card: VirtualCard) -> None:
    get_discovery = bytes.fromhex("00CB3FFF035C017E08")
    attachment = attach(card, reader.port)
    slot = await reader.connection()
    slot.send(POWER_ON)
    await slot.ask(SELECT)
    first = await slot.ask(get_discovery)
    assert first[-2] == 0x61
    closing = asyncio.create_task(attachment.close())
    await asyncio.sleep(0)  # it has begun to settle
    rest = await slot.ask(bytes((0x00, 0xC0, 0x00, 0x00, first[-1])))
    assert rest[-2:] == b"\x90\x00"
    await closing
    await slot.ended()


async def test_who_never_fetches_the_rest_holds_nothing_up_for_long(
    reader: Reader, card: VirtualCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vpcd_session, "_REST_SECONDS", 0.05)
    attachment = attach(card, reader.port)
    slot = await reader.connection()
    slot.send(POWER_ON)
    await slot.ask(SELECT)
    assert (await slot.ask(bytes.fromhex("00CB3FFF035C017E08")))[-2] == 0x61
    async with asyncio.timeout(20):
        await attachment.close()
    await slot.ended()
    assert not card.midway


async def test_a_reader_that_goes_meanwhile_holds_nothing_up(
    reader: Reader, card: VirtualCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vpcd_session, "_REST_SECONDS", 60.0)
    attachment = attach(card, reader.port)
    slot = await reader.connection()
    slot.send(POWER_ON)
    await slot.ask(SELECT)
    assert (await slot.ask(bytes.fromhex("00CB3FFF035C017E08")))[-2] == 0x61
    closing = asyncio.create_task(attachment.close())
    await asyncio.sleep(0)
    await slot.hang_up()
    async with asyncio.timeout(20):
        await closing


# --- an unused PIN


async def test_an_unused_pin_is_forgotten(reader: Reader, card: VirtualCard) -> None:
    """One timer, and only after a PIN; looking at the card is no use of the PIN."""
    status, loop = bytes.fromhex("00200080"), asyncio.get_running_loop()
    attachment = attach(card, reader.port, pin_lapse=0.2)
    slot = await reader.connection()
    slot.send(POWER_ON)
    await slot.ask(SELECT)
    session = attachment._session
    assert session is not None
    assert session._lapsing is None
    assert await slot.ask(VERIFY) == b"\x90\x00"
    begun = loop.time()
    while await slot.ask(status) == b"\x90\x00":
        assert loop.time() < begun + 10
        await asyncio.sleep(0.02)
    assert loop.time() > begun + 0.15
    assert not card.unlocked
    assert session._lapsing is None
    assert await slot.ask(VERSION) == b"\x05\x07\x01\x90\x00"  # still selected
    await attachment.close()
    await slot.ended()


def test_a_pin_in_use_is_kept(card: VirtualCard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each use begins the time anew; a running command is never waited for."""
    clock = [1000.0]
    monkeypatch.setattr("agent.vsc.card.time", SimpleNamespace(monotonic=lambda: clock[0]))
    card.transmit(SELECT)
    assert card.lapse(60) is None
    assert card.transmit(VERIFY) == b"\x90\x00"
    clock[0] += 59
    assert card.lapse(60) == pytest.approx(1)
    assert card.transmit(VERIFY) == b"\x90\x00"
    clock[0] += 59
    assert card.lapse(60) == pytest.approx(1)
    card.transmit(bytes.fromhex("00200080"))  # asks for the status
    card.transmit(bytes.fromhex("0087039B047C02810000"))  # takes random numbers
    wrong = bytes.fromhex("0020008008393939393939FFFF")
    assert card.transmit(wrong)[:1] == b"\x63"
    assert card.lapse(60) == pytest.approx(1)
    with card._lock:
        assert card.lapse(60) == pytest.approx(1)
        clock[0] += 1
        assert card.lapse(60) == pytest.approx(1)
    assert card.unlocked
    assert card.lapse(60) is None
    assert not card.unlocked


async def test_without_a_limit_there_is_no_timer(reader: Reader, card: VirtualCard) -> None:
    attachment = attach(card, reader.port)
    slot = await reader.connection()
    slot.send(POWER_ON)
    await slot.ask(SELECT)
    assert await slot.ask(VERIFY) == b"\x90\x00"
    assert attachment._session is not None
    assert attachment._session._lapsing is None
    await attachment.close()
    await slot.ended()
