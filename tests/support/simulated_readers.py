"""Readers with simulated cards, as PC/SC would show them: cards come, go, and are torn out at any APDU."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from agent.ordered_card import CardReaders
from agent.pcsc import pin_pad
from agent.pcsc.connection import CardConnection
from agent.pcsc.look import Evidence, look
from agent.pcsc.reader_events import Look, ReaderLook
from agent.pcsc.traffic import Shown
from agent.reader_watch import ReaderMonitor, ReaderWatch
from protocol.errors import InlayError
from tests.cards.simulated import ATR, PIN, PUK, SimulatedCard, SimulatedLink

Tear = Callable[[int, bytes], str | None]
"""Asked at each APDU of a session, by its number from 1; what happens there, or None.

``before`` and ``after``: the card is torn out before the command, or when it was carried out; ``reset``: another
program resets it; ``service``: the service stops, and with it every connection; ``power``: the card's power is cut and
given back, and nobody says so. What it raises comes out of ``transmit``, and the card never has the command.
"""


Typed = bytes | Callable[[], bytes]
"""What is typed at a pad, or two bytes that the pad answers itself; or what says it, in the card's thread.

A PIN; for a change old, new and new again, parted by spaces.
"""
_VERIFY_CODE, _MODIFY_CODE = 0x42330006, 0x42330007
"""Control codes by which a simulated reader asks for a PIN, or for an old and a new one."""
_CHANGE, _UNBLOCK = (bytes.fromhex(head) + b"\xff" * 16 for head in ("0024008010", "002C008010"))


class _Link(SimulatedLink):
    """A connection to the card that is in a reader now; gone as soon as another is, or none."""

    def __init__(self, readers: SimulatedReaders, reader: str, *, looking: bool) -> None:
        super().__init__(readers.card_in(reader))
        self._readers, self._reader, self._looking = readers, reader, looking
        self._insertion = readers.insertions[reader]
        self._shown = Shown()
        self._lost = False

    def transmit(self, apdu: bytes) -> bytes:
        self._check()
        if self._looking:
            return self.card.transmit(apdu)
        self._readers.shown.append(self._shown.command(apdu))
        number, happens = self._readers.next_apdu(apdu)
        if happens == "power":
            self.card.reset()
            happens = None
        if happens == "reset":
            self.card.reset()
            self._lost = True
        elif happens == "service":
            self._readers.stop_service(self._reader)
        self._check()
        answer = b"" if happens == "before" else self.card.transmit(apdu)
        self._readers.shown.append(self._shown.answer(answer))
        if happens is None:
            self._readers.answered(number)
            return answer
        self._readers.tear_out(self._reader)
        raise InlayError("pcsc_card_removed")

    def ask_reader(self, function: int) -> bytes:
        if self._readers.pads.get(self._reader) is None:
            return super().ask_reader(function)
        features = {pin_pad.VERIFY_PIN_DIRECT: _VERIFY_CODE, pin_pad.MODIFY_PIN_DIRECT: _MODIFY_CODE}
        return b"".join(bytes((tag, 4)) + code.to_bytes(4, "big") for tag, code in features.items())

    def control(self, code: int, data: bytes) -> bytes:
        """What the reader with a pad does: the person types, and it goes into the command (part 10, 2.5.2, 2.5.3)."""
        assert code in (_VERIFY_CODE, _MODIFY_CODE)
        assert self.held
        entry = self._readers.pads[self._reader].pop(0)
        typed = entry if isinstance(entry, bytes) else entry()
        if len(typed) == 2:
            return typed
        if code == _MODIFY_CODE:
            old, new, again = typed.split(b" ")
            assert data[24:] in (_CHANGE, _UNBLOCK)
            if new != again:
                return b"\x64\x02"
            return self.transmit(data[24:29] + old.ljust(8, b"\xff") + new.ljust(8, b"\xff"))
        assert data[19:] == bytes.fromhex("0020008008FFFFFFFFFFFFFFFF")
        return self.transmit(data[19:24] + typed.ljust(8, b"\xff"))

    @property
    def reader(self) -> str:
        """The reader's name."""
        return self._reader

    @property
    def holds(self) -> bool:
        """Whether its transaction keeps others off a card that is there."""
        return self.held and self._readers.insertions.get(self._reader) == self._insertion

    def begin(self) -> None:
        self._check()
        super().begin()

    def reconnect(self) -> None:
        self._lost = False
        super().reconnect()

    def close(self, *, reset: bool = False) -> None:
        if self._readers.insertions.get(self._reader) == self._insertion:
            super().close(reset=reset)

    def _check(self) -> None:
        if self._readers.problem is not None:
            raise InlayError(self._readers.problem)
        if self._lost:
            raise InlayError("pcsc_card_reset")
        if self._readers.insertions.get(self._reader) != self._insertion:
            raise InlayError("pcsc_card_removed")


class SimulatedReaders:
    """Two readers.

    Attributes:
        trace: every APDU of sessions, not of looks.
        tear: what happens at each of them.
        answered: told of each of them, by its number from 1, once the card has carried it out and before anybody has
            the answer; what it raises takes the answer's place.
        torn: called when a card was torn out or the service stopped; puts it back, or another one.
        pads: reader with a PIN pad to what is typed there next.
        refusal: code of what connections are refused with; None: they aren't.
        refused: how often.
        insertions: reader to how often its state has changed, for those with a card.
        shown: what a log of the traffic would have shown of every session.
        held_for_person: readers whose card was held while a person was waited for: none ever may be.
    """

    def __init__(self) -> None:
        self.trace: list[bytes] = []
        self.tear: Tear = lambda _number, _apdu: None
        self.answered: Callable[[int], object] = lambda _number: None
        self.torn: Callable[[str], object] = lambda _reader: None
        self.problem: str | None = None
        self.pads: dict[str, list[Typed]] = {}
        self.refusal: str | None = None
        self.refused = 0
        self.readers = ["One", "Two"]
        self.insertions: dict[str, int] = {}
        self.held_for_person: list[str] = []
        self.shown: list[str] = []
        self._seen: list[SimulatedCard] = []
        self._links: weakref.WeakSet[_Link] = weakref.WeakSet()
        self._cards: dict[str, SimulatedCard] = {}
        self._count = 0
        self._tell: Callable[[Look], None] = lambda _look: None

    def card_readers(self, machine: Path) -> CardReaders:
        """What the agent's core gets."""
        return CardReaders(
            ReaderWatch(self.monitor),
            machine,
            look=self._look_at,
            connect=self._connect,
            count=self.insertions.get,
        )

    def card_in(self, reader: str) -> SimulatedCard:
        """The card in a reader."""
        if reader not in self._cards:
            raise InlayError("pcsc_card_removed")
        return self._cards[reader]

    def put(self, card: SimulatedCard, reader: str = "One") -> None:
        """Put a card in."""
        self._cards[reader] = card
        self._seen.append(card)
        self._changed(reader)

    def take(self, reader: str = "One") -> SimulatedCard:
        """Take a card out: it has no power any more."""
        card = self._cards.pop(reader)
        card.reset()
        self._count += 1
        self.insertions.pop(reader, None)
        self.show()
        return card

    def tear_out(self, reader: str) -> None:
        """A card is torn out in the middle of a command."""
        self.take(reader)
        self.torn(reader)

    def stop_service(self, reader: str) -> None:
        """The service stops in the middle of a command; its cards lose their power."""
        self.problem = "pcsc_no_service"
        for name, card in self._cards.items():
            card.reset()
            self.insertions[name] = self._count = self._count + 1
        self.show()
        self.torn(reader)

    def start_service(self) -> None:
        """It is there again, and so are its readers."""
        self.problem = None
        self.show()

    def next_apdu(self, apdu: bytes) -> tuple[int, str | None]:
        """A session's APDU comes: its number, and what happens to it."""
        self.trace.append(apdu)
        number = len(self.trace)
        return number, self.tear(number, apdu)

    def show(self) -> None:
        """Tell the watch how the readers stand."""
        rows = tuple(
            ReaderLook(name, name in self._cards, ATR, self.insertions.get(name, self._count))
            for name in self.readers
        )
        self._tell(Look(self.problem, () if self.problem else rows))

    def _changed(self, reader: str) -> None:
        self._count += 1
        self.insertions[reader] = self._count
        self.show()

    def monitor(self, tell: Callable[[Look], None]) -> ReaderMonitor:
        """Tells of readers and cards; the one that was made last."""
        self._tell = tell
        return _Monitor(self)

    def link(self, reader: str, *, looking: bool) -> SimulatedLink:
        """A connection to the card in a reader: of a look for cards, or of a session."""
        if not looking and self.refusal is not None:
            self.refused += 1
            raise InlayError(self.refusal)
        made = _Link(self, reader, looking=looking)
        self._links.add(made)
        return made

    def secrets_shown(self) -> list[str]:
        """Of what is secret on every card that was in a reader that which a log of the traffic would have shown."""
        secrets = {PIN, PUK}
        for card in self._seen:
            secrets |= {card.pin.rstrip(b"\xff"), card.puk, *card.keys_by_algorithm.values()}
            secrets |= {secret for _, key in card.keys.values() for secret in _secrets_of(key)}
        text = "\n".join(self.shown)
        return [secret.hex() for secret in secrets if secret.hex().upper() in text]

    def person_waited_for(self) -> None:
        """A window waits for a person now."""
        self.held_for_person += [link.reader for link in self._links if link.holds]

    def _look_at(self, reader: str, aids: frozenset[bytes], features: frozenset[str]) -> Evidence:
        with CardConnection(self.link(reader, looking=True), reader) as card:
            return look(card, aids, features)

    def _connect(self, reader: str) -> CardConnection:
        return CardConnection(self.link(reader, looking=False), reader)


def _secrets_of(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> list[bytes]:
    if isinstance(key, rsa.RSAPrivateKey):
        numbers = key.private_numbers()
        return [numbers.p.to_bytes(128, "big"), numbers.q.to_bytes(128, "big")]
    return [key.private_numbers().private_value.to_bytes(key.key_size // 8, "big")]


class _Monitor:
    """See ``agent.reader_watch.ReaderMonitor``."""

    def __init__(self, readers: SimulatedReaders) -> None:
        self._readers = readers

    def start(self) -> None:
        self._readers.show()

    def stop(self) -> None:
        pass
