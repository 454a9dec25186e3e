"""What a card shows of itself: its ATR, the names it answers to, and what a PIV application turned out to have."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, replace
from typing import Final

from agent.pcsc import piv_objects, piv_pin, piv_select
from agent.pcsc.apdu import Command
from agent.pcsc.connection import CardConnection
from agent.pcsc.piv_names import AID
from agent.pcsc.piv_select import FEATURES, Capabilities
from protocol.errors import InlayError

MANAGERS: Final = frozenset({bytes.fromhex("A000000151000000"), bytes.fromhex("A000000003000000")})
"""The card manager of a JavaCard (GlobalPlatform Card Specification 2.3, appendix H.1.3; and its older name)."""
_LOOKS: Final = 2
"""A card whose power was cut meanwhile is looked at again: some of what it said may have been said without power."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was seen.

    Attributes:
        atr: the card's answer to reset.
        aids: of the names it was asked by, those that it answers to.
        capabilities: of its PIV application, as far as it was asked for them; None when it has none.
        guid: of its CHUID, 32 hexadecimal digits; None when it has none.
        pin_tries: tries left; None when the card doesn't tell, or the PIN is verified.
    """

    atr: bytes
    aids: frozenset[bytes] = frozenset()
    capabilities: Capabilities | None = None
    guid: str | None = None
    pin_tries: int | None = None

    @property
    def bare(self) -> bool:
        """Whether its card manager answers, and no application that it was asked for."""
        return bool(self.aids) and self.aids <= MANAGERS

    def without_serial(self) -> Evidence:
        """The same of a card whose serial number isn't its own, and so tells nothing."""
        able = self.capabilities
        return self if able is None else replace(self, capabilities=replace(able, serial=None))

    @property
    def features(self) -> frozenset[str]:
        """Names of what the card turned out to have: of `FEATURES`."""
        return frozenset(name for name in FEATURES if getattr(self.capabilities, name, False))


def look(card: CardConnection, aids: Set[bytes], features: Set[str] = FEATURES) -> Evidence:
    """Look at a card. Nothing is changed and no try is spent; other programs wait meanwhile.

    Args:
        card: a connection.
        aids: names to ask it by.
        features: what its PIV application is asked for: each costs a command.

    Raises:
        InlayError: ``pcsc_…``, ``card_answer_malformed``.
    """
    for _ in range(_LOOKS - 1):
        try:
            return _look(card, aids, features)
        except InlayError as error:
            if error.code != "pcsc_card_reset":
                raise
    return _look(card, aids, features)


def _look(card: CardConnection, aids: Set[bytes], features: Set[str]) -> Evidence:
    with card.held():
        piv = frozenset(aid for aid in aids if AID.startswith(aid))  # some take the longer names alone
        answering = _answering(card, aids - piv)
        evidence = Evidence(card.atr(), answering)
        try:
            piv_select.select(card)
        except InlayError as error:
            if error.code != "card_not_supported":
                raise
            return replace(evidence, aids=answering | _answering(card, piv | MANAGERS))
        chuid = piv_objects.read_chuid(card)
        return Evidence(
            evidence.atr,
            answering | piv,
            piv_select.probe(card, features),
            None if chuid is None else chuid.guid.hex(),
            piv_pin.tries_left(card),
        )


def _answering(card: CardConnection, aids: Set[bytes]) -> frozenset[bytes]:
    """Of these names, those that the card answers to."""
    return frozenset(aid for aid in aids if card.send(Command(0xA4, 0x04, 0x00, aid)).ok)
