"""Orders whose PIN is typed at the reader: the real agent's process, pcscd, a driver with a pad, our card in it."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.vsc.card import VirtualCard
from protocol import link
from protocol.messages import Binding, ChangePin, PinPolicy, UnblockPin, VerifyPin
from tests.support.certificates import ThrowAwayCA
from tests.support.daemon_process import DaemonProcess, TerminalOrder
from tests.support.fake_portal import FakePortal
from tests.support.pcscd import PrivatePcscd
from tests.support.pin_pad_reader import (
    CANCELLED,
    READER,
    REFUSED,
    TIMED_OUT,
    WRONG_LENGTH,
    ModifyStructure,
    PinPad,
    VerifyStructure,
    pin_pad,
)
from tests.support.process_memory import holds
from tests.support.processes import wait_until
from tests.support.token_orders import code_number
from tests.support.virtual_cards import EC_KEYS, InReader, full_card, store_in
from tests.support.virtual_cards import PUK as FIRST_PUK

pytestmark = pytest.mark.interop
WAYS = pytest.mark.parametrize("way", ["change", "unblock", "verify"])
MODIFYING = pytest.mark.parametrize("way", ["change", "unblock"])
CODES = itertools.count(1)
SELECT = bytes.fromhex("00A4040009A0000003080000100000")
ASKS = {
    "change": "Type the old PIN",
    "unblock": "Type the PUK",
    "verify": "Type the PIN of the card at the keys",
}


def digits() -> bytes:
    """Eight digits that nothing else has by chance: what they are looked for in must not have them."""
    return b"%08d" % secrets.randbelow(10**8)


NOT_SELECTED = b"\x69\x85"
"""To a command before SELECT; nothing that is told here is answered so else."""


class Desk:
    """A person before a terminal, with a reader whose pad they type at.

    Attributes:
        pin, puk, new: what is typed there; the card has the first two.
    """

    def __init__(
        self, agent: DaemonProcess, portal: FakePortal, pad: PinPad, card: VirtualCard, puk: bytes
    ) -> None:
        self.agent, self.portal, self.pad, self.card = agent, portal, pad, card
        self.pin, self.puk, self.new = digits(), digits(), digits()
        self.tell(bytes.fromhex("002C008010") + puk + self.pin)
        self.tell(bytes.fromhex("0024008110") + puk + self.puk)
        self.terminal: TerminalOrder | None = None

    def tell(self, apdu: bytes, answer: bytes = b"\x90\x00") -> None:
        """Have the card do something before it is in anybody's hands."""
        assert self._selected(apdu) == answer
        self.card.reset()

    def _selected(self, apdu: bytes) -> bytes:
        """What the card answers. Who looks at its reader may reset it in between: then it hasn't heard the command."""
        while True:
            assert self.card.transmit(SELECT).endswith(b"\x90\x00")
            answer = self.card.transmit(apdu)
            if answer != NOT_SELECTED:
                return answer

    def block(self) -> None:
        """Spend all tries of the PIN."""
        for left in (b"\x63\xc2", b"\x63\xc1", b"\x63\xc0"):
            self.tell(bytes.fromhex("00200080083030303030303030"), left)

    def has(self, pin: bytes) -> bool:
        """Whether the card's PIN is this one, which nobody but the test tries here."""
        self.card.reset()
        return self._selected(bytes.fromhex("0020008008") + pin) == b"\x90\x00"

    @property
    def tries(self) -> tuple[int, int]:
        details = self.card.details()
        return details.pin_tries, details.puk_tries

    def right(self, way: str) -> bytes:
        """What is typed for an order when nothing is wrong."""
        known = self.puk if way == "unblock" else self.pin
        return known if way == "verify" else b" ".join((known, self.new, self.new))

    def wrong(self, way: str) -> bytes:
        return self.right(way).replace(self.puk if way == "unblock" else self.pin, b"00000000", 1)

    async def begin(self, way: str, *typed: bytes | Callable[[], bytes], **changes: Any) -> None:
        """Click the link of an order, and agree; from then on the pad is typed at."""
        known: dict[str, Any] = {
            "card": "card-1",
            "driver": "piv",
            "guid": self.card.guid.hex(),
            "label": "Card 7",
            "where": "pad",
        }
        sets: dict[str, Any] = {"pin_policy": PinPolicy()}
        if way == "verify":
            self.portal.operation = VerifyPin(**known | changes)
        elif way == "change":
            self.portal.operation = ChangePin(**known | sets | changes)
        else:
            self.portal.operation = UnblockPin(**known | sets | {"puk": "typed"} | changes)
        self.pad.typed[:] = typed
        self.pad.asked.clear()
        self.pad.answered.clear()
        code = code_number(next(CODES))
        self.terminal = TerminalOrder(self.agent, link.build(self.portal.portal, code))
        await self.terminal.begin()
        await self.terminal.answer(b"Type yes: ", b"yes")

    async def sees(self, *texts: str) -> None:
        """The terminal shows these, one after the other."""
        assert self.terminal is not None
        for text in texts:
            await self.terminal.until(text.encode())

    async def end(self) -> str:
        """The code of the order's end."""
        assert self.terminal is not None
        answer = await self.terminal.end()
        error: dict[str, str] = answer.get("error", {})
        if error:
            *_, at = self.portal.orders.values()
            at = await at.until(lambda at: at.undone is not None)
            assert at.undone is not None
            assert at.undone.error == error["error"]
        return error.get("error", "finished")

    def knows(self) -> set[bytes]:
        """What the agent has of what was typed, in its memory or in its files."""
        typed = (self.pin, self.puk, self.new)
        written = self.agent.everything_written()
        inside = holds(self.agent.pid, *typed, READER.encode())
        assert READER.encode() in inside  # what it has is found
        return {secret for secret in typed if secret in written or secret in inside}


@pytest.fixture(scope="module")
def reader(pcscd: PrivatePcscd) -> Iterator[PinPad]:
    """The reader; its socket's path is a short one."""
    with tempfile.TemporaryDirectory() as folder:
        card = full_card(store_in(Path(folder)), EC_KEYS)
        with pin_pad(Path(folder), pcscd, card) as pad:
            yield pad


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory, reader: PinPad) -> Iterator[DaemonProcess]:
    """One for all tests: what it still had of an earlier one's digits would be found, too."""
    process = DaemonProcess(tmp_path_factory.mktemp("agent")).start()
    yield process
    process.stop()


@pytest.fixture
async def portal(https_ca: ThrowAwayCA) -> Any:
    async with FakePortal(https_ca) as running:
        running.binding = Binding.NONE
        yield running


class Pocket:
    """The card that goes from test to test, while it can be unblocked."""

    card: VirtualCard | None = None
    puk = b""


@pytest.fixture(scope="module")
def pocket() -> Pocket:
    return Pocket()


@pytest.fixture
async def desk(
    tmp_path_factory: pytest.TempPathFactory,
    agent: DaemonProcess,
    portal: FakePortal,
    reader: PinPad,
    pocket: Pocket,
) -> Any:
    await agent.trust(portal.origin, portal.tls.ca_file)
    if pocket.card is None or reader.card is not pocket.card or pocket.card.details().puk_tries < 3:
        pocket.card, pocket.puk = full_card(store_in(tmp_path_factory.mktemp("card")), EC_KEYS), FIRST_PUK
        await asyncio.to_thread(reader.remove)
        reader.card = pocket.card
    made = Desk(agent, portal, reader, pocket.card, pocket.puk)
    pocket.puk = made.puk
    yield made
    if made.terminal is not None:
        made.terminal.close()


# --- what ends or goes wrong at the pad


@WAYS
async def test_cancelled_or_never_typed_nothing_is_changed_and_no_try_is_spent(desk: Desk, way: str) -> None:
    await desk.begin(way, CANCELLED)
    assert await desk.end() == "pad_cancelled"
    # too long for the pad's own idea, then nothing, as often as a reader is asked in a row
    await desk.begin(way, WRONG_LENGTH, TIMED_OUT, TIMED_OUT, TIMED_OUT)
    await desk.sees("too short or too long", *["No PIN was typed"] * 2)
    assert await desk.end() == "pad_timeout"
    assert desk.pad.typed == []
    assert desk.tries == (3, 3)
    assert desk.has(desk.pin)


@WAYS
async def test_what_is_wrong_costs_the_try_that_was_typed_and_is_asked_again(desk: Desk, way: str) -> None:
    typed = [desk.wrong(way), desk.right(way)[:5] if way == "verify" else b"12345 12345 12345"]
    if way != "verify":
        typed.append(desk.right(way).removesuffix(desk.new) + b"99999999")  # not repeated
    await desk.begin(way, *typed, desk.wrong(way), desk.right(way))
    name = "PUK" if way == "unblock" else "PIN"
    await desk.sees(ASKS[way], f"The {name} is wrong", "2 tries", "too short or too long")
    if way != "verify":
        await desk.sees("differ")
    await desk.sees(f"The {name} is wrong", "This is the last try")
    assert await desk.end() == "finished"
    assert len(desk.pad.asked) == len(typed) + 2  # and nothing in between
    assert desk.tries == (3, 3)
    assert desk.has(desk.pin if way == "verify" else desk.new)
    assert desk.knows() == set()


@WAYS
async def test_blocked_at_the_pad_ends_it_and_is_never_asked_for_again(desk: Desk, way: str) -> None:
    code = "card_puk_blocked" if way == "unblock" else "card_pin_blocked"
    await desk.begin(way, *[desk.wrong(way)] * 3)
    assert await desk.end() == code
    await desk.begin(way, desk.right(way))
    assert await desk.end() == code
    assert desk.pad.asked == []


async def test_pulled_while_it_asks_for_a_change_nobody_claims_to_know_the_pin(desk: Desk) -> None:
    await desk.begin("change", b"pull", desk.right("change"))
    assert await desk.end() == "card_pin_unknown"
    assert len(desk.pad.typed) == 1
    assert desk.has(desk.pin)


@pytest.mark.parametrize(
    ("way", "said"), [("unblock", "still blocked"), ("verify", "a try may have been spent")]
)
async def test_pulled_while_it_asks_the_card_is_waited_for_and_the_person_told(
    desk: Desk, way: str, said: str
) -> None:
    if way == "unblock":
        desk.block()
    await desk.begin(way, b"pull", desk.right(way))
    await desk.sees("Put the card “Card 7” back")
    await asyncio.to_thread(desk.pad.remove)
    desk.pad.card = desk.card
    await desk.sees(said, ASKS[way])
    assert await desk.end() == "finished"
    assert len(desk.pad.asked) == 2
    assert desk.tries == (3, 3)
    assert desk.has(desk.pin if way == "verify" else desk.new)


@MODIFYING
async def test_killed_while_it_is_typed_the_next_start_says_that_the_pin_may_be_either(
    desk: Desk, way: str
) -> None:
    """The reader goes on without the agent, and the card takes what is typed there."""
    asks, killed = threading.Event(), threading.Event()

    def typed() -> bytes:
        asks.set()
        assert killed.wait(20)
        return desk.right(way)

    await desk.begin(way, typed)
    assert await asyncio.to_thread(asks.wait, 20)
    desk.agent.kill()
    killed.set()
    await desk.agent.start_again()
    *_, at = desk.portal.orders.values()
    at = await at.until(lambda at: at.undone is not None)
    assert at.undone is not None
    assert at.undone.error == "card_pin_unknown"
    assert len(desk.pad.asked) == 1
    await asyncio.to_thread(wait_until, lambda: desk.pad.answered == [b"\x90\x00"], "the card's answer")
    assert desk.has(desk.new)


# --- readers that can't ask


@pytest.fixture
async def elsewhere(desk: Desk, pcscd: PrivatePcscd) -> Any:
    """The card is in a reader without keys."""
    desk.pad.card = None
    loop = asyncio.get_running_loop()
    inserted = InReader(desk.card, pcscd.vpcd_port)
    await loop.run_in_executor(None, inserted.__enter__)
    yield desk
    await loop.run_in_executor(None, inserted.__exit__)


@MODIFYING
async def test_without_a_pad_it_is_refused_where_it_has_to_be_typed_there_and_else_the_window_asks(
    elsewhere: Desk, way: str
) -> None:
    await elsewhere.begin(way)
    assert await elsewhere.end() == "pad_missing"
    assert elsewhere.tries == (3, 3)
    await elsewhere.begin(way, where="auto")
    await in_the_window(elsewhere, way)
    assert await elsewhere.end() == "finished"
    assert elsewhere.pad.asked == []
    assert elsewhere.has(elsewhere.new)


@MODIFYING
async def test_a_pad_that_cant_make_sense_of_it_leaves_it_to_the_window_where_the_order_does(
    desk: Desk, way: str
) -> None:
    await desk.begin(way, REFUSED)
    assert await desk.end() == "pad_refused"
    await desk.begin(way, REFUSED, where="auto")
    await in_the_window(desk, way)
    assert await desk.end() == "finished"
    assert len(desk.pad.asked) == 1
    assert desk.has(desk.new)


async def in_the_window(desk: Desk, way: str) -> None:
    """Type at the terminal what else is typed at the pad."""
    assert desk.terminal is not None
    known = desk.puk if way == "unblock" else desk.pin
    await desk.terminal.answer(b"(an empty line cancels): ", known)
    await desk.terminal.type_pin(desk.new)


# --- as it goes


STRUCTURES: dict[str, Callable[[bytes], VerifyStructure | ModifyStructure]] = {
    "verify": lambda apdu: VerifyStructure(
        30, 30, 0x82, 0x08, 0, 0x0608, 2, 1, 0x0409, 0, bytes(3), len(apdu), apdu
    ),
    "change": lambda apdu: ModifyStructure(
        30, 30, 0x82, 0x08, 0, 0, 8, 0x0608, 3, 2, 3, 0x0409, 0, 1, 2, bytes(3), len(apdu), apdu
    ),
}
COMMANDS = {
    "verify": bytes.fromhex("0020008008" + 8 * "FF"),
    "change": bytes.fromhex("0024008010" + 16 * "FF"),
    "unblock": bytes.fromhex("002C008010" + 16 * "FF"),
}


@pytest.mark.parametrize(("way", "where"), [("change", "pad"), ("unblock", "auto"), ("verify", "pad")])
async def test_typed_at_the_pad_alone_by_the_structure_of_the_standard(
    desk: Desk, way: str, where: str
) -> None:
    """PC/SC part 10 v2.02.09, 2.5.2 and 2.5.3; the agent has none of the digits, in its memory or anywhere."""
    if way == "unblock":
        desk.block()
    await desk.begin(way, desk.right(way), where=where)
    assert await desk.end() == "finished"
    structure = STRUCTURES["verify" if way == "verify" else "change"]
    assert desk.pad.asked == [structure(COMMANDS[way])]
    assert desk.tries == (3, 3)
    assert desk.has(desk.pin if way == "verify" else desk.new)
    assert desk.knows() == set()
