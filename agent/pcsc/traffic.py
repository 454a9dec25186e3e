"""What is said to a card and what it answers, for a log that support may see: a level below DEBUG, off by default.

Shown is what is known to be harmless, by an allow-list; of everything else how many bytes it was. So no PIN, PUK, key,
proof of a key or what a key has done is ever shown, in whichever pieces it goes, and nothing of a command that this
file doesn't know. A status word is always shown, and so is a command's header.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.pcsc.apdu import QUESTIONS, name_of
from agent.pcsc.piv_names import CCC, CHUID, DISCOVERY, KEY_HISTORY
from agent.pcsc.tlv import encode
from protocol.errors import InlayError

if TYPE_CHECKING:
    from agent.pcsc.connection import Link

TRAFFIC: Final = 5
"""The log level, below `logging.DEBUG`."""
_LOG = logging.getLogger(__name__)
logging.addLevelName(TRAFFIC, "TRAFFIC")

_CHAINED: Final = 0x10
_SELECT, _GET_DATA, _PUT_DATA, _GENERATE = 0xA4, 0xCB, 0xDB, 0x47
_GET_RESPONSE: Final = 0xC0
_METADATA, _SERIAL, _VERSION = 0xF7, 0xF8, 0xFD
_READ: Final = frozenset(
    encode(0x5C, tag.to_bytes((tag.bit_length() + 7) // 8, "big"))
    for tag in (DISCOVERY, CHUID, CCC, KEY_HISTORY)
)
"""GET DATA of objects that hold neither names nor secrets. Certificates name their holder, and some programs keep a
management key in the printed information (5FC109)."""
_TOLD: Final = frozenset({_SELECT, _METADATA, _SERIAL, _VERSION, _GENERATE})
"""Instructions whose answer is public."""
_LONGEST_AID: Final = 16
_LONGEST_TEMPLATE: Final = 16
_TAG_BYTES: Final = 5
"""PUT DATA begins with 5C 03 and the object's tag."""
_FEATURE_REQUEST: Final = 3400
_STATUS_BYTES: Final = 2


def turn_on() -> None:
    """Log traffic until this process ends, and say so."""
    _LOG.setLevel(TRAFFIC)
    _LOG.warning(
        "WHAT IS SAID TO CARDS IS LOGGED as long as this agent runs; PINs, PUKs and keys are left out. "
        "To end it: inlay agent --stop"
    )


def is_on() -> bool:
    """Whether traffic is logged."""
    return _LOG.isEnabledFor(TRAFFIC)


def watched(link: Link, reader: str) -> Link:
    """The same connection, whose traffic is logged where that is on."""
    return _WatchedLink(link, reader) if is_on() else link


class _Body(NamedTuple):
    data: bytes
    readable: bool


class Shown:
    """What may be shown of one connection's traffic, command after command.

    What is shown of an answer depends on the command that it is an answer to, GET RESPONSE included.
    """

    def __init__(self) -> None:
        self._chained = False
        self._tells = False

    def command(self, apdu: bytes) -> str:
        """A command as it may be shown."""
        if len(apdu) < 4:
            self._chained = self._tells = False
            return _length(apdu)
        class_, instruction = apdu[0], apdu[1]
        head = f"{name_of(instruction)} {apdu[:4].hex(' ').upper()}"
        if instruction == _GET_RESPONSE:
            self._chained = False
            return head if len(apdu) == 5 else f"{head} {_length(apdu[4:])}"
        later, self._chained = self._chained, bool(class_ & _CHAINED)
        body = _body(apdu)
        alone = class_ == 0 and not later and body.readable
        public = alone and (not body.data or _data_is_public(instruction, body.data))
        self._tells = public and _answer_is_public(instruction, body.data)
        if not body.data:
            return head
        if public:
            return f"{head} {body.data.hex().upper()}"
        if not later and body.readable and instruction == _PUT_DATA and body.data[:2] == b"\x5c\x03":
            return f"{head} {body.data[:_TAG_BYTES].hex().upper()} {_length(body.data[_TAG_BYTES:])}"
        return f"{head} {_length(body.data)}"

    def answer(self, raw: bytes) -> str:
        """The answer to the last command as it may be shown."""
        if len(raw) < _STATUS_BYTES:
            return _length(raw)
        data, status = raw[:-_STATUS_BYTES], raw[-_STATUS_BYTES:].hex().upper()
        if not data:
            return status
        return f"{data.hex().upper()} {status}" if self._tells else f"{_length(data)} {status}"


class _WatchedLink:
    """See ``agent.pcsc.connection.Link``."""

    def __init__(self, link: Link, reader: str) -> None:
        self._link, self._reader, self._shown = link, reader, Shown()

    def transmit(self, apdu: bytes) -> bytes:
        """Transmit one APDU."""
        self._say("> %s", self._shown.command(apdu))
        try:
            answer = self._link.transmit(apdu)
        except InlayError as error:
            self._say("< %s", error.code)
            raise
        self._say("< %s", self._shown.answer(answer))
        return answer

    def begin(self) -> None:
        """Keep other programs off the card."""
        self._link.begin()
        self._say("= %s", "transaction begins")

    def end(self, *, reset: bool) -> bool:
        """Let them at it again; whether the card has forgotten what was proved to it, if it was to."""
        forgotten = self._link.end(reset=reset)
        self._say("= %s", "transaction ends, card is reset" if reset else "transaction ends")
        return forgotten

    def reconnect(self) -> None:
        """Take the card up again after a reset."""
        self._say("= %s", "reconnects after a reset")
        self._link.reconnect()

    def atr(self) -> bytes:
        """The card's answer to reset."""
        found = self._link.atr()
        self._say("= %s", f"ATR {found.hex().upper()}")
        return found

    def ask_reader(self, function: int) -> bytes:
        """Ask the reader's driver by the number of a function."""
        answer = self._link.ask_reader(function)
        features = function == _FEATURE_REQUEST  # tags and control codes, of the driver's making
        self._say(
            "= %s", f"reader function {function}: {answer.hex().upper() if features else _length(answer)}"
        )
        return answer

    def control(self, code: int, data: bytes) -> bytes:
        """Ask the reader's driver by a control code; what is typed at a pad stays between pad and card."""
        self._say("> %s", f"reader control {code:08X} {_length(data)}")
        try:
            answer = self._link.control(code, data)
        except InlayError as error:
            self._say("< %s", error.code)
            raise
        status = len(answer) == _STATUS_BYTES
        self._say("< %s", answer.hex().upper() if status else _length(answer))
        return answer

    def close(self, *, reset: bool = False) -> None:
        """Disconnect."""
        self._say("= %s", "disconnects, card is reset" if reset else "disconnects")
        self._link.close(reset=reset)

    def _say(self, form: str, shown: str) -> None:
        _LOG.log(TRAFFIC, f"[%s] {form}", self._reader, shown)


def _length(data: bytes) -> str:
    return f"({len(data)} bytes)"


def _body(apdu: bytes) -> _Body:
    """A command's data; all that follows the header where its length can't be made out (ISO/IEC 7816-4, 5.1)."""
    rest = apdu[4:]
    if len(rest) <= 1:
        return _Body(b"", readable=True)  # nothing, or Le
    if rest[0]:
        size, begin, longest_le = rest[0], 1, 1
    elif len(rest) > 2:
        if len(rest) == 3:
            return _Body(b"", readable=True)  # Le of three bytes
        size, begin, longest_le = int.from_bytes(rest[1:3], "big"), 3, 2
    else:
        return _Body(rest, readable=False)
    if not size or not 0 <= len(rest) - begin - size <= longest_le:
        return _Body(rest, readable=False)
    return _Body(rest[begin : begin + size], readable=True)


def _data_is_public(instruction: int, data: bytes) -> bool:
    if instruction == _SELECT:
        return len(data) <= _LONGEST_AID
    if instruction == _GET_DATA:
        return data[:1] == b"\x5c" and len(data) <= _TAG_BYTES
    if instruction == _GENERATE:
        return data[:1] == b"\xac" and len(data) <= _LONGEST_TEMPLATE
    return data in QUESTIONS  # which ask for a witness or a challenge; the answer isn't shown


def _answer_is_public(instruction: int, data: bytes) -> bool:
    return data in _READ if instruction == _GET_DATA else instruction in _TOLD
