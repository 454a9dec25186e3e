"""The independent card where tests of the host have a simulated one: the same names, and none of its code behind them.

`card_of` gives the card of any profile, and `INDEPENDENT` is what the kinds of independent cards look like as profiles,
which tests take their expectations from.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass, replace
from typing import Any, Final

from agent.pcsc.apdu import by_t0
from tests.cards.independent import keys
from tests.cards.independent.card import GLOBAL_PIN, PIN, PUK, IndependentCard
from tests.cards.independent.personality import PERSONALITIES, PURE, RETIRED_SLOTS, Personality
from tests.cards.profiles import ALL_YUBICO, PROFILES, RSA_2048, Profile
from tests.cards.simulated import SimulatedCard, factory_key, rsa_key

_SERIAL: Final = b"\x01\x02\x03\x04"


@dataclass(frozen=True)
class IndependentProfile(Profile):
    """What a kind of independent card does, as a profile tells it.

    Attributes:
        personality: the kind.
    """

    personality: Personality = PURE


def profile_of(kind: Personality) -> IndependentProfile:
    """A kind as a profile; it comes with the management key and, where it has one, the serial number of all others."""
    algorithm = kind.management[0]
    kind = replace(
        kind, management=(algorithm, factory_key(algorithm)), serial=_SERIAL if kind.serial else b""
    )
    return IndependentProfile(
        kind.name,
        pin_tries=kind.pin_tries,
        puk_tries=kind.puk_tries,
        yubico=kind.vendor & ALL_YUBICO,
        unknown_key=kind.no_metadata,
        log_out=kind.log_out,
        management=(algorithm,),
        retired=len(kind.generates & RETIRED_SLOTS),
        chuid=kind.named,
        discovery=kind.discovery,
        capacity=kind.largest_object,
        wrong_management=kind.wrong_management,
        algorithms=tuple(kind.algorithms),
        tells_keys=kind.no_metadata != 0x9000,
        wrong_old=kind.wrong_change,
        absent_key=kind.empty_key,
        changes_puk=kind.puk_changes,
        forgets=kind.agreement_ends_pin,
        places=kind.retained,
        no_place=kind.no_object,
        bad_slot=kind.no_key,
        reset_by_pin=kind.reset_by_pin,
        chuid_by_reset=kind.named,
        personality=kind,
    )


INDEPENDENT: Final = tuple(profile_of(kind) for kind in PERSONALITIES)
EVERY_KIND: Final = (*PROFILES, *INDEPENDENT)
EVERY_CARD: Final = os.environ.get("CARDS") == "all"


def kinds(turn: int, fits: Callable[[Profile], bool] = lambda _kind: True) -> tuple[Profile, ...]:
    """Every kind of simulated card, and one of the independent ones: all of them with ``CARDS=all``.

    Each order takes its time, so each test takes another one: nine tests have had all.

    Args:
        turn: another number for each test.
        fits: whether a kind is one that the test is about.
    """
    return *filter(fits, PROFILES), *independent(turn, fits)


def independent(turn: int, fits: Callable[[Profile], bool] = lambda _kind: True) -> tuple[Profile, ...]:
    """Those of `kinds` that are independent."""
    able = [each for each in INDEPENDENT if fits(each)]
    return tuple(able) if EVERY_CARD else (able[turn % len(able)],)


def is_independent(kind: Profile) -> bool:
    """Whether cards of a kind are independent ones."""
    return isinstance(kind, IndependentProfile)


class _Keys(MutableMapping[int, tuple[int, Any]]):
    """Slot to algorithm and private key."""

    def __init__(self, slots: dict[int, keys.KeyPair]) -> None:
        self._slots = slots

    def __getitem__(self, slot: int) -> tuple[int, Any]:
        return self._slots[slot].algorithm, self._slots[slot].private

    def __setitem__(self, slot: int, key: tuple[int, Any]) -> None:
        self._slots[slot] = keys.KeyPair(key[0], key[1], imported=False, pin_policy=2)

    def __delitem__(self, slot: int) -> None:
        del self._slots[slot]

    def __iter__(self) -> Iterator[int]:
        return iter(self._slots)

    def __len__(self) -> int:
        return len(self._slots)


def _made(algorithm: int) -> keys.Private:
    return rsa_key() if algorithm == RSA_2048 else keys.generate(algorithm)


class InReader(SimulatedCard):
    """An independent card by the names of a simulated one.

    Attributes:
        inner: the card.
    """

    def __init__(self, profile: IndependentProfile) -> None:
        self.inner = IndependentCard(profile.personality)
        self.inner.make = _made
        self.profile = profile
        self.commands: list[bytes] = []
        self.maker = None

    def twin(self) -> InReader:
        other = object.__new__(InReader)
        other.inner, other.profile, other.commands = self.inner.copy(), self.profile, []
        other.maker = None
        return other

    def reset(self) -> None:
        self.inner.reset()

    def transmit(self, raw: bytes) -> bytes:
        """Answer an APDU, or what PC/SC makes of it for a card that speaks T=0 (`agent.pcsc.scard`)."""
        self.commands.append(raw)
        return self.inner.transmit(by_t0(raw) if self.inner.personality.t0 else raw)

    @property
    def pin(self) -> bytes:
        return self.inner.secrets[PIN].value

    @pin.setter
    def pin(self, value: bytes) -> None:
        self.inner.secrets[PIN].value = value

    @property
    def puk(self) -> bytes:
        return self.inner.secrets[PUK].value

    @puk.setter
    def puk(self, value: bytes) -> None:
        self.inner.secrets[PUK].value = value

    @property
    def pin_left(self) -> int:
        return self.inner.secrets[PIN].left

    @pin_left.setter
    def pin_left(self, left: int) -> None:
        self.inner.secrets[PIN].left = left

    @property
    def puk_left(self) -> int:
        return self.inner.secrets[PUK].left

    @puk_left.setter
    def puk_left(self, left: int) -> None:
        self.inner.secrets[PUK].left = left

    @property
    def pin_ok(self) -> bool:
        return self.inner.pin_verified

    @pin_ok.setter
    def pin_ok(self, verified: bool) -> None:
        self.inner.secrets[PIN].verified = verified
        if GLOBAL_PIN in self.inner.secrets:
            self.inner.secrets[GLOBAL_PIN].verified = verified

    @property
    def managed(self) -> bool:  # type: ignore[override]
        return self.inner.admin

    @property
    def selected(self) -> bool:  # type: ignore[override]
        return self.inner.selected

    @property
    def management(self) -> int:  # type: ignore[override]
        return self.inner.management.algorithm

    @property
    def keys_by_algorithm(self) -> dict[int, bytes]:
        return {self.inner.management.algorithm: self.inner.management.value}

    @keys_by_algorithm.setter
    def keys_by_algorithm(self, keys_: dict[int, bytes]) -> None:
        [(algorithm, value)] = keys_.items()
        self.inner.management = keys.ManagementKey(
            algorithm, value[: keys.KEY_SIZES[algorithm]], default=False
        )

    @property
    def objects(self) -> dict[int, bytes]:  # type: ignore[override]
        return self.inner.objects

    @property
    def keys(self) -> MutableMapping[int, tuple[int, Any]]:  # type: ignore[override]
        return _Keys(self.inner.slots)

    @property
    def serial(self) -> bytes:
        return self.inner.serial

    @serial.setter
    def serial(self, number: bytes) -> None:
        self.inner.serial = number

    @property
    def imported(self) -> set[int]:  # type: ignore[override]
        return {slot for slot, pair in self.inner.slots.items() if pair.imported}


def card_of(profile: Profile) -> SimulatedCard:
    """A card of a profile, by whichever of the two it is carried out."""
    return InReader(profile) if isinstance(profile, IndependentProfile) else SimulatedCard(profile)
