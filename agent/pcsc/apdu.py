"""Commands and answers of a card without I/O: a command in, the bytes to transmit out, answers in, the whole out.

ISO/IEC 7816-4, sections 5.1 to 5.4: short and extended lengths, command chaining in pieces of at most 255 bytes,
answers collected by GET RESPONSE (61xx), the length asked for again as the card wants it (6Cxx). Every loop is
bounded: a card that goes on for ever is an error that names the command.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from protocol.errors import InlayError

OK: Final = 0x9000
MAX_PIECE: Final = 255
MAX_EXTENDED: Final = 65_535
MAX_ROUNDS: Final = 256
"""GET RESPONSE rounds for one answer: with the least a card gives in each that is more than any PIV object."""
MAX_ANSWER: Final = 65_536

_GET_RESPONSE, _AUTHENTICATE = 0xC0, 0x87
_CHAINED: Final = 0x10
_MORE, _WRONG_LE = 0x61, 0x6C
_SHORT_LE: Final = 256
_HEADER: Final = 4

_NAMES: Final = {
    0xA4: "SELECT",
    0xC0: "GET RESPONSE",
    0xCB: "GET DATA",
    0xDB: "PUT DATA",
    0x20: "VERIFY",
    0x24: "CHANGE REFERENCE DATA",
    0x2C: "RESET RETRY COUNTER",
    0x87: "GENERAL AUTHENTICATE",
    0x47: "GENERATE KEY PAIR",
    0xF6: "MOVE KEY",
    0xF7: "GET METADATA",
    0xF8: "GET SERIAL",
    0xF9: "ATTEST",
    0xFA: "SET RETRIES",
    0xFB: "RESET",
    0xFD: "GET VERSION",
    0xFE: "IMPORT KEY",
    0xFF: "SET MANAGEMENT KEY",
}
_SECRET: Final = frozenset({0x20, 0x24, 0x2C, 0x87, 0xFE, 0xFF})
"""Instructions whose data may be a PIN, a PUK, a key, or the proof of one."""
QUESTIONS: Final = frozenset({bytes.fromhex("7C028000"), bytes.fromhex("7C028100")})
"""GENERAL AUTHENTICATE that asks for a witness or a challenge, and proves nothing yet."""


def name_of(instruction: int) -> str:
    """An instruction's name, for errors and people."""
    return _NAMES.get(instruction, f"INS {instruction:02X}")


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    Attributes:
        instruction: INS.
        p1: P1.
        p2: P2.
        data: command data; may be longer than one APDU holds.
        answer: whether answer data is wanted; then Le is always sent.
    """

    instruction: int
    p1: int
    p2: int
    data: bytes = field(default=b"", repr=False)
    answer: bool = True

    @property
    def name(self) -> str:
        """Its name, for errors and people."""
        return name_of(self.instruction)

    @property
    def secret(self) -> bool:
        """Whether its data is never shown, and proves something to the card, or tries to."""
        return self.instruction in _SECRET and bool(self.data) and self.data not in QUESTIONS

    @property
    def begins(self) -> bool:
        """Whether nothing of other programs may come after it: a secret, or a question that waits for one."""
        return self.secret or (self.instruction == _AUTHENTICATE and self.data in QUESTIONS)

    def __str__(self) -> str:
        shown = "…" if self.secret else self.data.hex().upper()
        return f"{self.name} {self.p1:02X} {self.p2:02X} {shown}".rstrip()


class Answer(NamedTuple):
    """A card's whole answer.

    Attributes:
        data: all of it, GET RESPONSE included.
        status: status word of the last piece.
    """

    data: bytes
    status: int

    @property
    def ok(self) -> bool:
        """Whether the status is 9000."""
        return self.status == OK


class Card(Protocol):
    """A card: the seam between what is said to it and how that gets there."""

    @property
    def reader(self) -> str:
        """The reader it is in."""

    def send(self, command: Command) -> Answer:
        """Send a command and collect the whole answer.

        Raises:
            InlayError: ``pcsc_…``, ``card_answer_malformed``.
        """


def exchange(command: Command, *, extended: bool = False) -> Generator[bytes, bytes, Answer]:
    """What to transmit for a command: yields APDUs, is sent what the card answered to each, returns the whole.

    Args:
        command: the command.
        extended: send long data in one APDU with extended lengths; else it is chained.

    Raises:
        InlayError: ``card_answer_malformed``: an answer without status, or without end.
    """
    pieces = [command.data] if extended else _pieces(command.data)
    for piece in pieces[:-1]:
        raw = yield _encode(_CHAINED, command, piece, None)
        _, status = _split(command, raw)
        if status != OK:
            return Answer(b"", status)
    expected = (0x10000 if extended else _SHORT_LE) if command.answer else None
    raw = yield _encode(0, command, pieces[-1], expected, extended=extended)
    data, status = _split(command, raw)
    if status >> 8 == _WRONG_LE and command.answer:  # no length was said else, and a PIN would be tried again
        raw = yield _encode(0, command, pieces[-1], status & 0xFF or _SHORT_LE, extended=extended)
        data, status = _split(command, raw)
    for _ in range(MAX_ROUNDS):
        if status >> 8 != _MORE:
            return Answer(data, status)
        raw = yield bytes((0x00, _GET_RESPONSE, 0x00, 0x00, status & 0xFF))
        more, status = _split(command, raw)
        if status >> 8 == _WRONG_LE and not more:
            raw = yield bytes((0x00, _GET_RESPONSE, 0x00, 0x00, status & 0xFF))
            more, status = _split(command, raw)
        if not more and status == OK:
            break  # it has promised more: what was to come is lost
        data += more
        if len(data) > MAX_ANSWER:
            break
    raise malformed(command)


def by_t0(apdu: bytes) -> bytes:
    """A short APDU as the protocol T=0 carries it (ISO/IEC 7816-3, section 12.2): data or Le, and one of them always.

    PC/SC passes it on as it is. Behind data there is no Le: the card says 61xx, and is asked for what it has.
    """
    if len(apdu) == _HEADER:
        return apdu + b"\0"
    size = apdu[_HEADER]
    return apdu[:-1] if size and len(apdu) == _HEADER + 1 + size + 1 else apdu


def malformed(command: Command) -> InlayError:
    """The error for an answer that is none."""
    return InlayError("card_answer_malformed", command=command.name)


def _pieces(data: bytes) -> list[bytes]:
    return [data[at : at + MAX_PIECE] for at in range(0, len(data), MAX_PIECE)] or [b""]


def _split(command: Command, raw: bytes) -> tuple[bytes, int]:
    if len(raw) < 2:
        raise malformed(command)
    return raw[:-2], int.from_bytes(raw[-2:], "big")


def _encode(
    class_: int, command: Command, data: bytes, expected: int | None, *, extended: bool = False
) -> bytes:
    """An APDU; `expected` is Ne, None when no answer data is wanted (ISO/IEC 7816-4, section 5.1)."""
    head = bytes((class_, command.instruction, command.p1, command.p2))
    if extended and (len(data) > MAX_PIECE or (expected or 0) > _SHORT_LE):
        length = (b"\0" + len(data).to_bytes(2, "big")) if data else b""
        wanted = b"" if expected is None else (expected & 0xFFFF).to_bytes(2, "big")
        return head + length + data + (wanted if data or expected is None else b"\0" + wanted)
    length = bytes((len(data),)) if data else b""
    return head + length + data + (b"" if expected is None else bytes((expected & 0xFF,)))
