"""The APDU engine: any sequence of any bytes, in any state of authentication."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from cryptography.hazmat.primitives.asymmetric import rsa

from agent.keys_system import DeviceSecret, Level
from agent.vsc import slot_keys
from agent.vsc.applet import MAX_COMMAND_BYTES, process
from agent.vsc.card import pad
from agent.vsc.command_parser import INSTRUCTIONS
from agent.vsc.commands import ATTESTATION, RSA_BITS, Algorithm, Reference
from agent.vsc.keys_software import SoftwareKeys
from agent.vsc.outcome import run_step
from agent.vsc.personalise import create, generate
from agent.vsc.state import PersistentState, VolatileState
from agent.vsc.store import CardStore
from tests.support.virtual_cards import CHEAP, PIN, PUK

if TYPE_CHECKING:
    import random
    from collections.abc import Hashable, Iterator

    import pytest

    from tests.fuzz.target import Sequence

_VECTORS = Path(__file__).parents[1] / "vectors" / "piv"
_GOOD = (0x90, 0x61)


@cache
def _rsa_key(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def _quick_generate(algorithm: Algorithm) -> slot_keys.PrivateKey:
    """RSA keys from a drawer: making one takes so long that nothing else would be tried."""
    return _rsa_key(RSA_BITS[algorithm]) if algorithm in RSA_BITS else _REAL_GENERATE(algorithm)


_REAL_GENERATE = slot_keys.generate


class CardTarget:
    """The engine with real keys, its PIN and management key proved or not as the seed has it."""

    name = "apdu"

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make a card with a key in several slots."""
        monkeypatch.setattr(slot_keys, "generate", _quick_generate)
        store = CardStore(folder / "cards", DeviceSecret(bytes(range(32)), Level.FILE))
        card = create(store, label="fuzz", pin=bytearray(PIN), puk=bytearray(PUK), cost=CHEAP)
        slots = {0x9A: Algorithm.RSA_2048, 0x9C: Algorithm.P_256, 0x9D: Algorithm.P_384}
        slots |= {0x9E: Algorithm.ED25519, 0x82: Algorithm.X25519}
        for slot, algorithm in slots.items():
            generate(card, slot, algorithm)
        self._keys = SoftwareKeys(store.secret)
        self._state = store.load(card.card_id)

    def seeds(self) -> list[Sequence]:
        """The commands of all vectors."""
        cases = [case for path in _VECTORS.glob("*.json") for case in json.loads(path.read_text())["cases"]]
        return [[bytes.fromhex(command) for command, _ in case["exchanges"]] for case in cases]

    def run(self, sequence: Sequence, rng: random.Random) -> Iterator[Hashable]:
        """Run it, checking after each command what holds for all."""
        state, volatile = self._state, self._begin(rng)
        for raw in sequence:
            spent: list[PersistentState] = []
            outcome = run_step(process(state, volatile, raw, self._keys), spent.append)
            status = outcome.status
            assert 0x6100 <= status <= 0x9000, hex(status)
            if status >> 8 not in _GOOD:
                assert outcome.data == b""
                assert _comparable(outcome.state) == _comparable(state), "a refused command changed the card"
            assert len(outcome.volatile.outgoing) <= MAX_COMMAND_BYTES + 4
            assert outcome.volatile.chain is None or len(outcome.volatile.chain.data) <= MAX_COMMAND_BYTES
            if outcome.state is not state:
                encoded = msgspec.msgpack.encode(outcome.state)
                assert msgspec.msgpack.decode(encoded, type=PersistentState) == outcome.state
                assert all(slot == key.slot for slot, key in outcome.state.slots.items())
            state, volatile = outcome.state, outcome.volatile
            yield _kind(raw), status, volatile.managed, volatile.pin_verified, ATTESTATION in state.slots

    def _begin(self, rng: random.Random) -> VolatileState:
        opened = (
            self._keys.open_by(self._state, Reference.PIN, pad(PIN), None) if rng.random() < 0.7 else None
        )
        proved = opened is not None
        return VolatileState(
            selected=rng.random() < 0.95,
            pin_verified=proved,
            pin_fresh=proved,
            managed=rng.random() < 0.7,
            open_card=opened,
        )


def _kind(raw: bytes) -> tuple[int, int]:
    """Class and instruction, as far as the card knows them."""
    known = raw[1] if len(raw) > 1 and raw[1] in INSTRUCTIONS else -1
    return min(raw[0], 0x11) if raw else -1, known


def _comparable(state: PersistentState) -> PersistentState:
    """All but the tries, which wrong values spend."""
    pin, puk = (msgspec.structs.replace(entry, tries=1) for entry in (state.pin, state.puk))
    return msgspec.structs.replace(state, pin=pin, puk=puk)
