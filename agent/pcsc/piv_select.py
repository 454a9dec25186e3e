"""Is it a PIV card, and what can it do: SELECT with fall-backs, and probes that change nothing.

What a card can do is asked of the card, never concluded from its brand.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Final

from agent.pcsc import tlv
from agent.pcsc.apdu import Card, Command, malformed
from agent.pcsc.piv_names import AID, AUTHENTICATION, MANAGEMENT, ManagementAlgorithm
from agent.pcsc.status import UNKNOWN
from protocol.errors import InlayError

_LENGTHS: Final = (11, 9, 5)
"""All of the AID, without its version, the RID alone: each is what some card wants."""
_TEMPLATE, _ALGORITHMS, _REFERENCE = 0x61, 0xAC, 0x80
FEATURES: Final = frozenset({"attestation", "importing", "metadata", "moving", "new_management_key"})
"""What a card may have beyond the standard: each is a command to ask for, and a field of `Capabilities`."""
_AUTHENTICATION: Final = 0x7C


@dataclass(frozen=True, slots=True)
class Application:
    """What SELECT told (SP 800-73pt2-5, section 3.1.1).

    Attributes:
        algorithms: algorithm identifiers the card names; empty when it names none.
    """

    algorithms: frozenset[int]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a card turned out to have, beyond the standard's commands; of what it wasn't asked for: nothing.

    Attributes:
        version: what GET VERSION says, as ``5.7.1``; None when the card has none.
        serial: what GET SERIAL says; None when the card has none.
        metadata: GET METADATA.
        attestation: ATTEST.
        moving: MOVE KEY, which deletes keys, too.
        importing: IMPORT KEY.
        new_management_key: SET MANAGEMENT KEY.
    """

    version: str | None
    serial: int | None
    metadata: bool
    attestation: bool
    moving: bool
    importing: bool
    new_management_key: bool


def select(card: Card) -> Application:
    """SELECT the PIV application, by the longest name that the card takes.

    Raises:
        InlayError: ``card_not_supported`` when it takes none; ``card_answer_malformed``; ``pcsc_…``.
    """
    for length in _LENGTHS:
        command = Command(0xA4, 0x04, 0x00, AID[:length])
        answer = card.send(command)
        if answer.ok:
            return _application(command, answer.data)
    raise InlayError("card_not_supported")


def probe(card: Card, features: Set[str] = FEATURES) -> Capabilities:
    """What a selected card can do. Nothing is changed, and no try of a PIN is spent.

    Args:
        card: it.
        features: what it is asked for beside its version and serial number: of `FEATURES`.

    Raises:
        InlayError: ``pcsc_…``, ``card_answer_malformed``.
    """
    version = card.send(Command(0xFD, 0, 0))
    return Capabilities(
        version=".".join(map(str, version.data)) if version.ok and len(version.data) == 3 else None,
        serial=serial_number(card),
        metadata="metadata" in features and _tells(card),
        attestation="attestation" in features and can_attest(card),
        moving="moving" in features and can_delete(card),
        importing="importing" in features and _knows(card, Command(0xFE, 0x00, 0x00, answer=False)),
        new_management_key="new_management_key" in features
        and _knows(card, Command(0xFF, 0x00, 0x00, answer=False)),
    )


def serial_number(card: Card) -> int | None:
    """GET SERIAL: what a selected card says its serial number is; None where it tells none.

    Raises:
        InlayError: ``pcsc_…``.
    """
    told = card.send(Command(0xF8, 0, 0))
    return int.from_bytes(told.data, "big") if told.ok and len(told.data) == 4 else None


def can_attest(card: Card) -> bool:
    """Whether a card has ATTEST."""
    return _knows(card, Command(0xF9, AUTHENTICATION, 0))


def can_delete(card: Card) -> bool:
    """Whether a card has MOVE KEY, which deletes keys, too."""
    return _knows(card, Command(0xF6, 0x00, 0x00, answer=False))


def management_algorithms(card: Card) -> tuple[ManagementAlgorithm, ...]:
    """Algorithms under which the card begins an authentication of its management key, strongest first.

    Asked by a witness, and by a challenge where the card has no mutual authentication; some cards take the same key
    under several algorithms. Metadata says which one is the key's, where there is metadata.
    """
    metadata = card.send(Command(0xF7, 0, MANAGEMENT))
    if metadata.ok:
        try:
            value = tlv.find(metadata.data, 0x01)
            return (ManagementAlgorithm(int.from_bytes(value or b"", "big")),)
        except (tlv.TlvError, ValueError):
            pass  # the card can still be asked
    for tag in (0x80, 0x81):
        found = tuple(
            algorithm
            for algorithm in sorted(ManagementAlgorithm, reverse=True)
            if _begins(card, algorithm, tag)
        )
        if found:
            return found
    return ()


def _tells(card: Card) -> bool:
    """Whether GET METADATA says something: some cards have the command, and nothing to say."""
    metadata = card.send(Command(0xF7, 0, MANAGEMENT))
    return metadata.ok and bool(metadata.data)


def _begins(card: Card, algorithm: ManagementAlgorithm, tag: int) -> bool:
    """Whether a card asks by an algorithm: with a block of its length, for some don't look at which one is named."""
    answer = card.send(Command(0x87, algorithm, MANAGEMENT, bytes((_AUTHENTICATION, 0x02, tag, 0x00))))
    try:
        block = tlv.find(tlv.only(answer.data, _AUTHENTICATION), tag) if answer.ok else None
    except tlv.TlvError:
        block = None
    return block is not None and len(block) == algorithm.block_bytes


def _knows(card: Card, command: Command) -> bool:
    """Whether the card has a command: sent so that no card can carry it out, and asked how it is refused."""
    return card.send(command).status not in UNKNOWN


def _application(command: Command, data: bytes) -> Application:
    """What SELECT answered: nothing, the application property template, or a template that others have for files.

    Only the first tells something, and most cards leave out what they could name in it. Some name each algorithm in a
    template of its own, others all in one, or all in one value.
    """
    try:
        named = [
            found
            for template in tlv.parse(data)
            if template.tag == _TEMPLATE
            for item in tlv.parse(template.value)
            if item.tag == _ALGORITHMS
            for found in tlv.parse(item.value)
        ]
    except tlv.TlvError:
        raise malformed(command) from None
    return Application(frozenset(number for item in named if item.tag == _REFERENCE for number in item.value))
