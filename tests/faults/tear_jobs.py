"""What `tests.faults.tears` disturbs: the jobs, the positions in them, and how each of those ended.

`JOBS` is the one place where a job is registered: an operation on a physical card, whether the card was encoded before,
and what the person types.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from protocol.messages import (
    Algorithm,
    BlockCard,
    CardStep,
    ChangePin,
    ChangePuk,
    EncodeCard,
    KeyOrder,
    KeySource,
    ManagementAlgorithm,
    ManagementKey,
    Operation,
    PinEntry,
    PinPolicy,
    Purpose,
    UnblockPin,
    VerifyPin,
)
from tests.cards.profiles import IMPORT, PROFILES, SET_KEY, Profile
from tests.cards.simulated import PUK, SimulatedCard
from tests.support.fake_order import AUTHENTICATION, SIGNATURE
from tests.support.physical_orders import portals_identity, with_keys_of_before

Answers = list[tuple[bytes | None, bytes | None]]
TORN: Final = "torn"
KILLED: Final = "killed"
CUT: Final = "cut"
MODES: Final = (TORN, KILLED, CUT)
POWER: Final = "without power"
"""The card's power is cut and given back before an APDU, and nobody says so: by simulated readers alone."""
SIDES: Final = ("before", "after")
GUID: Final = "0f" * 16
NEXT_GUID: Final = "1e" * 16
"""Of a card that somebody else gets."""
NEW_PIN, LATER_PIN = b"135790", b"246801"
NEW_KEY: Final = bytes(range(1, 25))
OWN_PUK, LATER_PUK = b"97531864", b"86420975"
PROFILE: Final = next(each for each in PROFILES if SET_KEY in each.yubico and each.chuid)
TELLS_NOTHING: Final = next(each for each in PROFILES if not each.yubico and not each.chuid)
"""No metadata, so nobody can ask it for tries of its PUK or which PUK it has; no serial number, no CHUID, no CCC."""
_ENCRYPTION: Final = KeyOrder("9D", Purpose.ENCRYPTION, Algorithm.P_256, KeySource.IMPORT, "CN=Alex Example")


class Job(NamedTuple):
    """Something that is ordered of a card.

    Attributes:
        encoded: the card was encoded before.
        operation: what is ordered.
        answers: what the person types.
        puks: the PUK that the portal has, and the one that it gives where the operation gives one.
        blocked: PIN and PUK of the card are both blocked before.
        afterwards: the job that finishes the card when this one was undone before it had begun to change it, and the
            one when it was undone later; None: this one.
        profile: which kind of card; one that isn't `PROFILE` has no run over a real pcscd.
        prepare: what else somebody has done to the card before.
        clears: slots whose keys are those of whoever had the card before, and have to go.
    """

    encoded: bool
    operation: Operation
    answers: Answers
    puks: tuple[bytes, bytes] = (PUK, OWN_PUK)
    afterwards: tuple[str | None, str | None] = ("unblock", "re-encode")
    blocked: bool = False
    profile: Profile = PROFILE
    prepare: Callable[[SimulatedCard], object] | None = None
    clears: tuple[int, ...] = ()

    @property
    def gives_puk(self) -> bool:
        """Whether the card has another PUK in the end."""
        given = isinstance(self.operation, EncodeCard) and self.operation.new_puk
        return given or isinstance(self.operation, ChangePuk)

    @property
    def blocks(self) -> bool:
        """Whether it spends every try on purpose."""
        return isinstance(self.operation, BlockCard)

    @property
    def keeps(self) -> bool:
        """Whether everything on the card stays, whatever happens: all but a PUK that is given, and the tries."""
        return isinstance(self.operation, VerifyPin | ChangePuk | BlockCard)


def _job(*keys: KeyOrder, first: bool = False) -> Job:
    fields: dict[str, Any] = {
        "card": "card-1",
        "driver": "piv",
        "guid": GUID,
        "label": "Card 7",
        "valid_until": int(time.time()) + 10_000_000,
        "pin": PinEntry(kind="verify"),
        "keys": list(keys),
        "management": ManagementKey(),
    }
    if first:
        fields |= {
            "identity": portals_identity(),
            "pin": PinEntry(kind="new", policy=PinPolicy()),
            "steps": [CardStep.SET_PIN],
            "management": ManagementKey(replace=[ManagementAlgorithm.AES_192]),
            "new_puk": True,
        }
    answers: Answers = [(None, NEW_PIN)] if first else [(None, None), (NEW_PIN, None), (NEW_PIN, None)]
    ordered = EncodeCard(**fields)
    return Job(False, ordered, answers, afterwards=(None, None)) if first else Job(True, ordered, answers)


def _reset_job(*keys: KeyOrder) -> Job:
    """A card that was encoded, and blocked since, from the beginning; its person agrees that it is erased."""
    first = _job(*keys, first=True)
    ordered = msgspec.structs.replace(first.operation, reset=True)
    return Job(True, ordered, [*first.answers, (None, None)], (PUK, LATER_PUK), (None, None), blocked=True)


def _handed_over(*keys: KeyOrder) -> Job:
    """A card that goes to somebody else: an earlier encryption key in 82 and 83, and the key in 9C, aren't theirs."""
    first = _job(*keys, first=True)
    assert isinstance(first.operation, EncodeCard)
    identity = msgspec.structs.replace(portals_identity(), previous=GUID, blank=False, printed=None)
    ordered = msgspec.structs.replace(
        first.operation, guid=NEXT_GUID, identity=identity, clear_retired=True, clear=["9C"]
    )
    return Job(
        True,
        ordered,
        [*first.answers, (None, None)],  # where it isn't known which PUK it has, its person agrees to a try
        (OWN_PUK, LATER_PUK),
        (None, None),
        prepare=lambda card: with_keys_of_before(card, 0x82, 0x83),
        clears=(0x82, 0x83, 0x9C),
    )


def _kept(key: KeyOrder) -> KeyOrder:
    return KeyOrder(key.slot, key.purpose, key.algorithm, KeySource.KEEP, key.subject)


def _pin_job(operation: type[ChangePin] | type[UnblockPin], known: bytes, **more: Any) -> Job:
    """Change or unblock: where the answer never came the person says that it is the new PIN, and tries anew if not."""
    ordered = operation(
        card="card-1", driver="piv", guid=GUID, label="Card 7", pin_policy=PinPolicy(), **more
    )
    typed = (known, LATER_PIN)
    return Job(True, ordered, [(None, None), typed, (LATER_PIN, None), typed])


def _card_job(operation: type[VerifyPin | ChangePuk | BlockCard], answers: Answers, **more: Any) -> Job:
    """An order that another one like it finishes; its person agrees to it, and then types ``answers``."""
    ordered = operation(card="card-1", driver="piv", guid=GUID, label="Card 7")
    return Job(True, ordered, [(None, None), *answers], afterwards=(None, None), **more)


def _rsa(slot: str, purpose: Purpose) -> KeyOrder:
    return KeyOrder(slot, purpose, Algorithm.RSA_2048, KeySource.GENERATE, "CN=Alex Example")


JOBS: Final = {
    "encode": _job(AUTHENTICATION, SIGNATURE, _ENCRYPTION, first=True),
    "re-encode": _job(AUTHENTICATION, SIGNATURE, _ENCRYPTION),
    "reset": _reset_job(AUTHENTICATION, SIGNATURE, _ENCRYPTION),
    "extend": _job(_kept(AUTHENTICATION), _kept(SIGNATURE)),
    "hand over": _handed_over(AUTHENTICATION, _ENCRYPTION),
    "change PIN": _pin_job(ChangePin, NEW_PIN),
    "unblock": _pin_job(UnblockPin, OWN_PUK, puk="typed"),
    "verify PIN": _card_job(VerifyPin, [(NEW_PIN, None), (NEW_PIN, None)]),
    # where nobody knows which PUK the card has its person agrees to a try
    "change PUK": _card_job(ChangePuk, [(None, None)], puks=(OWN_PUK, LATER_PUK)),
    "block": _card_job(BlockCard, []),
    # where it isn't known which PUK it has, its person agrees to a try
    "encode RSA, no metadata": _job(
        _rsa("9A", Purpose.AUTHENTICATION), _rsa("9D", Purpose.ENCRYPTION), first=True
    )._replace(answers=[(None, NEW_PIN), (None, None)], profile=TELLS_NOTHING),
}


MAIN_JOBS: Final = ("encode", "re-encode", "extend", "hand over")
"""Those that run on cards of other profiles, too."""
OTHER_PROFILES: Final = (
    "standard card, nothing beyond SP 800-73",
    "nothing longer over anything shorter",
)
"""One with nothing of Yubico's, and one that answers 6A84 and gives its answers in pieces."""


def profile_named(name: str) -> Profile:
    """The profile of this name."""
    return next(each for each in PROFILES if each.name == name)


def on_card(job: Job, profile: Profile) -> Job:
    """A job on a card of another profile: what that can't do, it isn't told to."""
    if profile is job.profile:
        return job
    ordered, answers = job.operation, job.answers
    if isinstance(ordered, EncodeCard) and IMPORT not in profile.yubico:
        made = KeySource.IMPORT_IF_POSSIBLE
        keys = [
            msgspec.structs.replace(key, source=made) if key.source is KeySource.IMPORT else key
            for key in ordered.keys
        ]
        ordered = msgspec.structs.replace(ordered, keys=keys)
    if job.gives_puk and not profile.metadata:
        answers = [*answers, (None, None)]  # where nobody knows which PUK it has, its person agrees to a try
    return job._replace(operation=ordered, answers=answers, profile=profile)


class Position(NamedTuple):
    """Where a job is disturbed, and how; ``card`` names a profile, where it isn't the job's own."""

    job: str
    apdu: int
    side: str
    mode: str
    card: str = ""

    def __str__(self) -> str:
        at = f"{self.job} {self.mode} {self.side} APDU {self.apdu}"
        return f"{at} ({self.card})" if self.card else at


class Row(NamedTuple):
    """How a position ended; no faults: nothing was lost."""

    position: Position
    end: str
    faults: list[str]

    def __str__(self) -> str:
        return "\n    ".join([f"{self.position!s:40} {self.end}", *self.faults])
