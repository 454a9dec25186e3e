"""A simulated card behind the protocol T=0: five bytes and data, or five bytes and an answer, and never both.

ISO/IEC 7816-3, section 12.2: a card that has taken data says 61xx of its answer, which is fetched by GET RESPONSE. One
that is asked for another length than it has says 6Cxx. A Le behind data is a byte that nobody takes from the line.
"""

from __future__ import annotations

from tests.cards.simulated import SimulatedCard

ATR = bytes.fromhex("3B021450")
"""T=0 is all that it names (ISO/IEC 7816-3, section 8.2)."""
_GET_RESPONSE, _HEADER = 0xC0, 5
_NO_ANSWER = frozenset({0x20, 0x24, 0x2C, 0xF6, 0xFE, 0xFF})
"""With P3 = 00 these have neither data nor an answer."""


class CardByT0:
    """Answers TPDUs by a card that answers APDUs."""

    def __init__(self, card: SimulatedCard) -> None:
        self.card = card
        self.wrong: list[str] = []
        self._answer = b""

    def transmit(self, tpdu: bytes) -> bytes:
        """Answer one TPDU; what is none stands in ``wrong``."""
        if len(tpdu) < _HEADER or len(tpdu) not in (_HEADER, _HEADER + tpdu[4]):
            self.wrong.append(tpdu.hex())
            return b"\x67\x00"
        if tpdu[1] == _GET_RESPONSE:
            return self._fetched(tpdu[4] or 256)
        if len(tpdu) > _HEADER:
            self._answer, status = self._asked(tpdu)
            return self._promise() if self._answer else status
        if tpdu[1] in _NO_ANSWER:
            return self._asked(tpdu[:4])[1]
        answer, status = self._asked(tpdu[:4])
        if answer and len(answer) != (tpdu[4] or 256):
            return bytes((0x6C, len(answer)))
        return answer + status

    def _asked(self, apdu: bytes) -> tuple[bytes, bytes]:
        raw = self.card.transmit(apdu)
        answer = raw[:-2]
        while raw[-2] == 0x61:
            raw = self.card.transmit(bytes((0, _GET_RESPONSE, 0, 0, raw[-1])))
            answer += raw[:-2]
        return answer, raw[-2:]

    def _fetched(self, most: int) -> bytes:
        if most > len(self._answer):
            return bytes((0x6C, len(self._answer)))
        piece, self._answer = self._answer[:most], self._answer[most:]
        return piece + (self._promise() if self._answer else b"\x90\x00")

    def _promise(self) -> bytes:
        return bytes((0x61, min(len(self._answer), 256) & 0xFF))
