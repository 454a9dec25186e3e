"""Mutations of byte strings and of sequences of them; everything drawn from one seeded generator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random

_TELLING: Final = (0x00, 0x01, 0x04, 0x10, 0x20, 0x53, 0x5C, 0x7C, 0x7E, 0x7F, 0x80, 0x81, 0x82, 0x83, 0x84)
_TELLING_TOO: Final = (
    0x85,
    0x9A,
    0x9B,
    0x9C,
    0x9D,
    0x9E,
    0xA4,
    0xAC,
    0xC0,
    0xCB,
    0xDB,
    0xF6,
    0xF9,
    0xFE,
    0xFF,
)
_ANY: Final = (*_TELLING, *_TELLING_TOO)
_LONGEST: Final = 70_000


def mutate(rng: random.Random, data: bytes) -> bytes:
    """One to four small changes."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        rng.choice(_STEPS)(rng, changed)
    return bytes(changed[:_LONGEST])


def mutate_sequence(rng: random.Random, pool: list[list[bytes]]) -> list[bytes]:
    """A sequence of the pool with parts changed, doubled, dropped, or crossed with another's."""
    sequence = list(rng.choice(pool))
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(sequence) + 1)
        match rng.randrange(5):
            case 0:
                sequence[at:at] = rng.choice(pool)[:3]
            case 1:
                del sequence[at : at + 1]
            case 2:
                sequence.insert(at, rng.randbytes(rng.randint(0, 40)))
            case _ if sequence:
                at = min(at, len(sequence) - 1)
                sequence[at] = mutate(rng, sequence[at])
            case _:
                pass
    return sequence[:40]


def _flip(rng: random.Random, data: bytearray) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _set(rng: random.Random, data: bytearray) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.choice(_ANY) if rng.random() < 0.7 else rng.randrange(256)


def _insert(rng: random.Random, data: bytearray) -> None:
    at = rng.randint(0, len(data))
    data[at:at] = rng.randbytes(rng.choice((1, 1, 1, 2, 8, 255, 4000)))


def _remove(rng: random.Random, data: bytearray) -> None:
    at = rng.randint(0, len(data))
    del data[at : at + rng.choice((1, 1, 2, 16))]


def _repeat(rng: random.Random, data: bytearray) -> None:
    at = rng.randint(0, len(data))
    data[at:at] = data[at : at + rng.randint(1, 32)] * rng.randint(1, 4)


def _cut(rng: random.Random, data: bytearray) -> None:
    del data[rng.randint(0, len(data)) :]


_STEPS: Final = (_flip, _set, _set, _insert, _remove, _repeat, _cut)
