"""One card in a reader: shared until something is proved to it, then one transaction to the end, then reset.

All calls block: use them from one worker thread. What another program can do to a shared card is lived with here:
a reset is followed by a reconnection and the same SELECT, unless something was proved to the card meanwhile, which
the reset has undone: that is told, and nobody types a PIN twice unasked. A reset that nobody reports, because a reader
has cut the power, shows in the answers (`agent.pcsc.selected`) and is lived with in the same way.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, Protocol, Self

from agent.pcsc import traffic
from agent.pcsc.apdu import MAX_PIECE, Answer, Command, exchange
from agent.pcsc.selected import NO_COMMAND, PIN_STATE, SAID_UNSELECTED, SELECT, STANDARD, Sign, Signs, tells
from protocol.errors import InlayError

if TYPE_CHECKING:
    from types import TracebackType

_HARMLESS: Final = Command(0xCB, 0x3F, 0xFF, bytes.fromhex("5C017E"))
"""GET DATA of the discovery object: changes nothing on any card, present or not."""
_BEGIN_TRIES: Final = 5
_NO_CHAINING: Final = frozenset({0x6883, 0x6884, 0x6E00})
"""What a card says of the first piece of a chain when it takes none: extended lengths are tried then."""
_NO_INSTRUCTION: Final = 0x6D00
_NEITHER: Final = NO_COMMAND | {0x6700}


class Link(Protocol):
    """PC/SC's connection to a card: `agent.pcsc.scard.Connection`."""

    def transmit(self, apdu: bytes) -> bytes:
        """Transmit one APDU."""

    def begin(self) -> None:
        """Keep other programs off the card."""

    def end(self, *, reset: bool) -> bool:
        """Let them at it again; whether the card has forgotten what was proved to it, if it was to."""

    def reconnect(self) -> None:
        """Take the card up again after a reset."""

    def atr(self) -> bytes:
        """The card's answer to reset."""

    def ask_reader(self, function: int) -> bytes:
        """Ask the reader's driver by the number of a function."""

    def control(self, code: int, data: bytes) -> bytes:
        """Ask the reader's driver by a control code."""

    def close(self, *, reset: bool = False) -> None:
        """Disconnect."""


class CardConnection:
    """A connection to one card; see the module.

    Attributes:
        reader: the reader's PC/SC name.
        extended: long commands go out with extended lengths: the card has refused to take them in pieces.
    """

    def __init__(self, link: Link, reader: str) -> None:
        """Take over a connection that PC/SC has made."""
        self.reader = reader
        self.extended = False
        self._link = traffic.watched(link, reader)
        self._held = False
        self._proved = False
        self._selected: Command | None = None
        self._signs = Signs()
        self._tells_nothing = False

    @property
    def proved(self) -> bool:
        """Whether a PIN or key was proved to the card, so that it is reset in the end."""
        return self._proved

    def atr(self) -> bytes:
        """The card's answer to reset.

        Raises:
            InlayError: ``pcsc_…``.
        """
        return self._link.atr()

    def send(self, command: Command) -> Answer:
        """Send a command, GET RESPONSE and chaining included.

        The first one with a secret, or that asks for one, begins the transaction.

        Raises:
            InlayError: ``pcsc_…``; ``pcsc_card_reset`` when a reset undid what was proved, or may have come between
                the pieces of a command with a secret, or when the application was lost without one; a command with a
                secret is not sent again by itself; ``card_answer_malformed``.
        """
        if command.begins:
            self._begin()
        try:
            answer = self._exchange(command)
        except InlayError as error:
            if error.code == "card_answer_malformed" and self._went(command):
                return self._exchange(command)
            if error.code != "pcsc_card_reset" or self._proved or command.begins:
                raise
            self._recover(command)
            answer = self._exchange(command)
        if command.instruction == SELECT:
            if answer.ok:
                self._selected, self._signs = command, Signs()
            return answer
        if self._signs.heard(command, answer) is Sign.NOW and self._went(command):
            return self._exchange(command)
        if command.secret:
            self._proved = True  # or tried: either way the card is reset in the end
        return answer

    def confirm(self) -> None:
        """See that the application is still selected, where what the card answered leaves that open.

        Raises:
            InlayError: ``pcsc_card_reset``: it wasn't, and nothing that the card answered lately counts; ``pcsc_…``.
        """
        if self._signs.doubt and self._lost():
            self._signs = Signs()
            raise InlayError("pcsc_card_reset")

    def ask_reader(self, function: int) -> bytes:
        """Ask the reader, not the card, by the number of a function (PC/SC part 10, 2.2).

        Raises:
            InlayError: ``pcsc_failed``: it doesn't know the function; other ``pcsc_…``.
        """
        return self._link.ask_reader(function)

    def ask_reader_by(self, code: int) -> bytes:
        """Ask the reader by a control code that it has named itself.

        Raises:
            InlayError: ``pcsc_…``.
        """
        return self._link.control(code, b"")

    def enter(self, code: int, structure: bytes) -> Answer:
        """Have a person type at the reader's pad; what they typed goes to the card from there.

        The card is held meanwhile, so that no other program gets in between: the pad ends by itself when nobody types.

        Args:
            code: the reader's control code.
            structure: what the reader is to ask for, and the command for the card.

        Raises:
            InlayError: ``pcsc_…``; ``card_answer_malformed``: the reader gave no status.
        """
        self._begin()
        self._proved = True  # or tried: either way the card is reset in the end
        try:
            answer = self._link.control(code, structure)
        except InlayError as error:
            if error.code == "pcsc_failed":
                self.keep_alive()  # drivers name no cause: a card that was taken out is named by this
            raise
        if len(answer) != 2:
            raise InlayError("card_answer_malformed", command="PIN pad")
        status = int.from_bytes(answer, "big")
        if status in NO_COMMAND and self._lost():
            raise InlayError("pcsc_card_reset")
        return Answer(b"", status)

    def keep_alive(self) -> None:
        """Say something harmless, so that nobody takes a card that is waited with for idle.

        Raises:
            InlayError: ``pcsc_…``.
        """
        self._exchange(_HARMLESS)

    def hold(self) -> None:
        """Keep other programs off the card until `release`, and see that the card is there: one command.

        Raises:
            InlayError: ``pcsc_…``.
        """
        if self._held:
            self.keep_alive()
        self._begin()

    def begin(self) -> None:
        """Keep other programs off the card until `release`; nothing is sent where they are kept off already.

        Raises:
            InlayError: ``pcsc_…``.
        """
        self._begin()

    @contextlib.contextmanager
    def held(self) -> Iterator[Self]:
        """Keep other programs off the card; afterwards it is reset if anything was proved to it.

        Never wait for a person in here.

        Raises:
            InlayError: ``pcsc_…``.
        """
        self._begin()
        try:
            yield self
        finally:
            self.release()

    def release(self) -> None:
        """End the transaction, if one was begun; the card forgets what was proved to it."""
        if self._held:
            forgotten = self._link.end(reset=self._proved)
            self._proved = self._proved and not forgotten
        self._held = False

    def close(self) -> None:
        """Release the card and disconnect; harmless when it has gone."""
        self.release()
        self._link.close(reset=self._proved)
        self._proved = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self) -> None:
        """Begin the transaction, and select again what was selected: others had the card meanwhile."""
        if self._held:
            return
        self.confirm()  # selecting again would hide that it was lost
        for _ in range(_BEGIN_TRIES):
            try:
                self._link.begin()
                break
            except InlayError as error:
                if error.code != "pcsc_card_reset":
                    raise
                self._link.reconnect()
        else:
            raise InlayError("pcsc_card_reset")
        self._held = True
        if self._selected is not None:
            self._exchange(self._selected)

    def _recover(self, command: Command) -> None:
        self._link.reconnect()
        if self._held:
            self._held = False
            self._begin()
        elif self._selected is not None and command.instruction != SELECT:
            self._exchange(self._selected)

    def _lost(self) -> bool:
        """Whether the application is no longer selected; it is selected again then.

        What it says of the PIN tells, and where another one might say the same, whether a SELECT makes a difference.
        A card for which it makes none is not asked again: a SELECT may undo what was proved.
        """
        if self._selected is None or self._tells_nothing:
            return False
        self._signs.doubt = False
        state = self._exchange(PIN_STATE)
        if state.status not in SAID_UNSELECTED:
            return False
        if not self._exchange(self._selected).ok:
            raise InlayError("pcsc_card_reset")
        self._tells_nothing = state.status not in NO_COMMAND and not tells(self._exchange(PIN_STATE))
        return not self._tells_nothing

    def _went(self, command: Command) -> bool:
        """As `_lost`, of a command that can be sent again, once, because that neither undid nor hid anything.

        Raises:
            InlayError: ``pcsc_card_reset``: what was proved is to be proved again, or it was a secret.
        """
        doubt = self._signs.doubt
        if not self._lost():
            return False
        self._signs = Signs()
        if self._proved or command.secret or doubt:
            raise InlayError("pcsc_card_reset")
        return True

    def _exchange(self, command: Command) -> Answer:
        answer = self._carry(command)
        known = command.instruction in STANDARD  # every card has these: it is the class that it doesn't know
        no_chaining = answer.status in _NO_CHAINING or (known and answer.status == _NO_INSTRUCTION)
        if no_chaining and len(command.data) > MAX_PIECE and not self.extended:
            self.extended = True
            again = self._carry(command)
            if again.status in _NEITHER:
                self.extended = False  # it takes the command in no way: the answer is not about its length
                return answer
            return again
        return answer

    def _carry(self, command: Command) -> Answer:
        steps = exchange(command, extended=self.extended and len(command.data) > MAX_PIECE)
        try:
            apdu = next(steps)
            while True:
                apdu = steps.send(self._link.transmit(apdu))
        except StopIteration as end:
            answer: Answer = end.value
            return answer
