"""The card's file: changed bytes are recognised; a state that is authentic and senseless does no harm.

The second half re-encrypts what was changed, as no attacker could: it stands for faults of our own and
for files of versions to come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agent.keys_system import DeviceSecret, Level
from agent.vsc import personalise, store
from agent.vsc.card import VirtualCard
from agent.vsc.commands import Algorithm
from agent.vsc.store import CardDamaged, CardStore, CardStoreError
from tests.support.virtual_cards import CHEAP, PIN, PUK

if TYPE_CHECKING:
    import random
    from collections.abc import Hashable, Iterator
    from pathlib import Path

    from tests.fuzz.target import Sequence

_ID = "0123456789abcdef" * 2
_HEADER = store._HEADER.size
_PROBES = (
    "00A4040005A000000308",
    "0020008008313233343536FFFF",
    "00CB3FFF0000055C035FC1050000",
    "00F7009A00",
    "00F7009B00",
    "0087119A087C0682008102AABB00",
    "00870A9B047C02800000",
    "00F99A00",
    "00F6829A",
    "00FB0000",
)


class StateTarget:
    """One file: as it stands (one item), or its content sealed anew (two items, the first ignored)."""

    name = "state"

    def __init__(self, folder: Path) -> None:
        """Make a card and keep its file's bytes."""
        self._store = CardStore(folder / "cards", DeviceSecret(bytes(range(32)), Level.FILE))
        card = personalise.create(
            self._store, label="fuzz", pin=bytearray(PIN), puk=bytearray(PUK), cost=CHEAP, card_id=_ID
        )
        personalise.generate(card, 0x9A, Algorithm.P_256)
        self._path = folder / "cards" / f"{_ID}.card"
        self._file = self._path.read_bytes()
        self._state = self._store.load(_ID)
        self._content = msgspec.msgpack.encode(self._state)

    def seeds(self) -> list[Sequence]:
        """The file, and its content."""
        return [[self._file], [b"content", self._content]]

    def run(self, sequence: Sequence, rng: random.Random) -> Iterator[Hashable]:
        """Load what it makes: the very state, or an error by name."""
        if len(sequence) == 2:
            yield self._authentic(sequence[1])
            return
        raw = b"".join(sequence)
        self._path.write_bytes(raw)
        try:
            loaded = self._store.load(_ID)
        except CardStoreError as error:
            yield type(error).__name__
            return
        assert loaded == self._state, "a changed file was taken for the card's"
        yield "loaded"

    def _authentic(self, content: bytes) -> Hashable:
        nonce = bytes(12)
        length = len(nonce) + len(content) + 16
        header = self._file[: _HEADER - 4] + length.to_bytes(4, "big")
        sealed = AESGCM(self._store._key(_ID)).encrypt(nonce, content, header)
        self._path.write_bytes(header + nonce + sealed)
        try:
            card = VirtualCard.load(self._store, _ID)
        except CardDamaged as error:
            return type(error).__name__, len(content) == len(self._content)
        dear = card._state.cost != CHEAP  # a PIN then takes as long as the file says, which is its business
        probes = [probe for probe in _PROBES if not (dear and probe.startswith("0020"))]
        answers = [card.transmit(bytes.fromhex(probe)) for probe in probes]
        assert all(len(answer) >= 2 for answer in answers)
        return tuple(answer[-2:] for answer in answers)
