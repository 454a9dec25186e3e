"""Cards that go in the middle of a command, say nothing, belong to somebody else, or never end: over real pcscd."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable, Iterator

import pytest
from smartcard import scard as pyscard

from agent.pcsc import piv_objects, piv_pin, piv_select, scard
from agent.pcsc.connection import CardConnection
from agent.pcsc.monitor import Monitor
from agent.pcsc.reader_events import Look, ReaderLook
from protocol.errors import InlayError
from tests.cards.profiles import PROFILES
from tests.cards.simulated import SimulatedCard
from tests.support.pcscd import PrivatePcscd
from tests.support.processes import wait_until
from tests.support.wired_card import WiredCard

pytestmark = pytest.mark.interop


@pytest.fixture(autouse=True)
def empty_readers(pcscd: PrivatePcscd) -> None:
    wait_until(lambda: not any(reader.present for reader in scard.list_readers()), "empty readers")


@contextlib.contextmanager
def connected(reader: str) -> Iterator[CardConnection]:
    wait_until(
        lambda: any(item.name == reader and item.present for item in scard.list_readers()),
        f"a card in {reader}",
    )
    with scard.Context() as context, CardConnection(context.connect(reader), reader) as card:
        yield card


def code_of(work: Callable[..., object], *arguments: object) -> str:
    with pytest.raises(InlayError) as caught:
        work(*arguments)
    return caught.value.code


@pytest.mark.parametrize("instruction", [0xA4, 0xCB, 0x20])
def test_a_card_torn_out_in_mid_command_is_a_removal(pcscd: PrivatePcscd, instruction: int) -> None:
    simulated = SimulatedCard(PROFILES[0])

    def tear(apdu: bytes) -> bytes | None:
        return None if apdu[1] == instruction else simulated.transmit(apdu)

    with WiredCard(pcscd.vpcd_ports[5], tear), connected(pcscd.readers[5]) as card:
        if instruction == 0xA4:
            assert code_of(piv_select.select, card) == "pcsc_card_removed"
            return
        piv_select.select(card)
        if instruction == 0xCB:
            assert code_of(piv_objects.read_chuid, card) == "pcsc_card_removed"
        else:
            assert code_of(piv_pin.verify, card, b"123456") == "pcsc_card_removed"
            assert simulated.pin_left == 3


def test_answers_without_end_end_and_name_the_command(pcscd: PrivatePcscd) -> None:
    with (
        WiredCard(pcscd.vpcd_ports[5], lambda _apdu: b"\x61\x10"),
        connected(pcscd.readers[5]) as card,
        pytest.raises(InlayError) as caught,
    ):
        piv_select.select(card)
    assert (caught.value.code, caught.value.fields) == ("card_answer_malformed", {"command": "SELECT"})


@pytest.mark.parametrize("answer", [b"\x90", b"\x00"])
def test_an_answer_of_one_byte_is_an_error(pcscd: PrivatePcscd, answer: bytes) -> None:
    with WiredCard(pcscd.vpcd_ports[5], lambda _apdu: answer), connected(pcscd.readers[5]) as card:
        assert code_of(piv_select.select, card) == "card_answer_malformed"


def test_a_card_held_by_another_program_is_said_and_seen_until_it_is_let_go(pcscd: PrivatePcscd) -> None:
    looks: queue.Queue[Look] = queue.Queue()
    reader = pcscd.readers[5]
    exclusive, protocols = (
        pyscard.SCARD_SHARE_EXCLUSIVE,
        pyscard.SCARD_PROTOCOL_T0 | pyscard.SCARD_PROTOCOL_T1,
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(WiredCard.simulated(pcscd.vpcd_ports[5], SimulatedCard(PROFILES[0])))
        with connected(reader):
            pass
        code, context = pyscard.SCardEstablishContext(pyscard.SCARD_SCOPE_USER)
        assert code == 0
        stack.callback(pyscard.SCardReleaseContext, context)
        code, handle, _ = pyscard.SCardConnect(context, reader, exclusive, protocols)
        assert code == 0
        with scard.Context() as own:
            assert code_of(own.connect, reader) == "pcsc_sharing"
        monitor = Monitor(looks.put)
        monitor.start()
        stack.callback(monitor.stop)
        while not _shown(looks.get(timeout=20), reader).exclusive:
            pass
        pyscard.SCardDisconnect(handle, pyscard.SCARD_LEAVE_CARD)
        while (shown := _shown(looks.get(timeout=20), reader)).exclusive:
            pass
        assert shown.present


def test_a_card_that_says_nothing_at_its_reset_is_mute(pcscd: PrivatePcscd) -> None:
    """vpcd takes a card for present when it answers with any ATR: one that is none makes it mute for pcscd."""
    looks: queue.Queue[Look] = queue.Queue()
    reader = pcscd.readers[5]
    with contextlib.ExitStack() as stack:
        monitor = Monitor(looks.put)
        monitor.start()
        stack.callback(monitor.stop)
        stack.enter_context(WiredCard(pcscd.vpcd_ports[5], lambda _apdu: b"\x6d\x00", atr=b"\x00" * 40))
        while True:
            shown = _shown(looks.get(timeout=20), reader)
            if shown.present:
                break
        assert (shown.mute, shown.atr) == (True, b"")
        with scard.Context() as context:
            assert code_of(context.connect, reader) == "pcsc_card_mute"


def _shown(look: Look, reader: str) -> ReaderLook:
    return next((item for item in look.readers if item.name == reader), ReaderLook(reader, present=False))
