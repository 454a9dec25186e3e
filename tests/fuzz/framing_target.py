"""The framing of vpcd: however the stream is cut, the same messages, and never more kept than one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.vsc.vpcd_session import Frames, frame

if TYPE_CHECKING:
    import random
    from collections.abc import Hashable, Iterator

    from tests.fuzz.target import Sequence

_MOST_KEPT = 65_535 + 2


class FramingTarget:
    """A stream as a sequence of what arrives at once."""

    name = "framing"

    def seeds(self) -> list[Sequence]:
        """Controls, APDUs, empty messages, long ones, cut ones."""
        apdu = frame(bytes.fromhex("00A404000BA000000308000010000100"))
        return [
            [frame(b"\x01"), frame(b"\x04"), apdu],
            [frame(b""), frame(b""), apdu + apdu],
            [apdu[:1], apdu[1:3], apdu[3:]],
            [frame(b"A" * 65_535)],
            [b"\xff\xff" + bytes(100)],
            [b"", b"\x00"],
        ]

    def run(self, sequence: Sequence, rng: random.Random) -> Iterator[Hashable]:
        """Feed it as it is, at once, and cut anew: the same messages each time."""
        stream = b"".join(sequence)
        expected, rest = _reference(stream)
        for pieces in (sequence, [stream], _cut_anew(rng, stream)):
            frames, found = Frames(), list[bytes]()
            for piece in pieces:
                found += frames.feed(piece)
                assert len(frames._buffer) < _MOST_KEPT
            assert found == expected
            assert bytes(frames._buffer) == rest
        for message in expected:
            yield min(len(message), 3), message[:1]
        yield len(rest) > 2


def _reference(stream: bytes) -> tuple[list[bytes], bytes]:
    """The rule, written as plainly as can be: 2 bytes of length, then as many."""
    messages: list[bytes] = []
    at = 0
    while len(stream) - at >= 2:
        end = at + 2 + stream[at] * 256 + stream[at + 1]
        if end > len(stream):
            break
        messages.append(stream[at + 2 : end])
        at = end
    return messages, stream[at:]


def _cut_anew(rng: random.Random, stream: bytes) -> list[bytes]:
    cuts = sorted(rng.randint(0, len(stream)) for _ in range(rng.randint(0, 12)))
    return [stream[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
