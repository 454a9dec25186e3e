"""The attachment against a vpcd of the test's own: framing, polls, slow commands, back-off, refusal."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.vsc import vpcd
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
