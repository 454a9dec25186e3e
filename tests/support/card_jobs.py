"""What Inlay does with a card in a reader, job by job: by its driver alone, and as an order has it done.

An order's card is found, looked at and taken up first, and a person is told how many tries are left; the driver alone
does the job and nothing else. Both are what the product runs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from agent.handlers.read_card import read_objects
from agent.pcsc import piv_authenticate, piv_cipher, piv_keys, piv_objects, piv_pin, piv_select, piv_use
from agent.pcsc.connection import CardConnection
from agent.pcsc.look import look
from agent.pcsc.piv_names import PIN, PUK, KeyAlgorithm, ManagementAlgorithm
from agent.returning_card import ReturningCard
from protocol.messages import Algorithm
from tests.cards.simulated import PIN as OLD_PIN
from tests.cards.simulated import PUK as OLD_PUK

NEW_PIN: Final = b"246810"
DIGEST: Final = bytes(range(32))
SLOT: Final = 0x9A


@dataclass(frozen=True)
class CardFacts:
    """What a job is told of the card.

    Attributes:
        algorithm: of the management key.
        key: the management key.
        certificate: DER, of the key that is in slot 9A.
    """

    algorithm: ManagementAlgorithm
    key: bytes
    certificate: bytes


Driver = Callable[[CardConnection, CardFacts], object]
Order = Callable[[ReturningCard, CardFacts], Awaitable[object]]


def _prove(card: CardConnection, facts: CardFacts) -> None:
    question = piv_authenticate.ask(card, facts.algorithm, mutual=True)
    piv_authenticate.prove(card, question, piv_cipher.answer(facts.key, question))


def _write(card: CardConnection, facts: CardFacts) -> None:
    _prove(card, facts)
    piv_objects.write_certificate(card, SLOT, facts.certificate)


def _generate(card: CardConnection, facts: CardFacts) -> None:
    _prove(card, facts)
    piv_keys.generate(card, SLOT, KeyAlgorithm.P_256)


def _sign(card: CardConnection, _facts: CardFacts) -> None:
    piv_pin.verify(card, OLD_PIN)
    piv_use.sign_digest(card, SLOT, KeyAlgorithm.P_256, DIGEST)


BY_DRIVER: Final[dict[str, Driver]] = {
    "change PIN": lambda card, _: piv_pin.change(card, PIN, OLD_PIN, NEW_PIN),
    "unblock by PUK": lambda card, _: piv_pin.unblock(card, OLD_PUK, NEW_PIN),
    "verify PIN": lambda card, _: piv_pin.verify(card, OLD_PIN),
    "write certificate": _write,
    "read certificate": lambda card, _: piv_objects.read_certificate(card, SLOT),
    "read card": lambda card, _: (look(card, frozenset()), read_objects(card)),
    "generate P-256": _generate,
    "sign by P-256": _sign,
}
"""The driver's functions, with a card that is selected and held."""


def by_driver(card: CardConnection, job: str, facts: CardFacts) -> None:
    """One job by the driver, from SELECT on."""
    with card.held():
        if job != "read card":  # which begins with it
            piv_select.select(card)
        BY_DRIVER[job](card, facts)


async def _order_changes_pin(card: ReturningCard, _facts: CardFacts) -> None:
    await card.run(piv_pin.tries_left, PIN)
    await card.once(piv_pin.change, PIN, OLD_PIN, NEW_PIN)


async def _order_unblocks(card: ReturningCard, _facts: CardFacts) -> None:
    await card.run(piv_pin.tries_left, PUK)
    await card.once(piv_pin.unblock, OLD_PUK, NEW_PIN)


async def _order_verifies(card: ReturningCard, _facts: CardFacts) -> None:
    await card.run(piv_pin.tries_left)
    await card.verify(bytearray(OLD_PIN))


async def _order_writes(card: ReturningCard, facts: CardFacts) -> None:
    await card.prove_key()
    await card.write_certificate(f"{SLOT:02X}", facts.certificate)


async def _order_generates(card: ReturningCard, _facts: CardFacts) -> None:
    await card.prove_key()
    await card.generate(f"{SLOT:02X}", Algorithm.P_256)


async def _order_signs(card: ReturningCard, facts: CardFacts) -> None:
    await _order_verifies(card, facts)
    await card.certificate(f"{SLOT:02X}")
    await card.sign_digest(f"{SLOT:02X}", DIGEST, bytearray(OLD_PIN))


AS_ORDER: Final[dict[str, Order]] = {
    "change PIN": _order_changes_pin,
    "unblock by PUK": _order_unblocks,
    "verify PIN": _order_verifies,
    "write certificate": _order_writes,
    "read certificate": lambda card, _: card.certificate(f"{SLOT:02X}"),
    "read card": lambda card, _: card.run(read_objects),
    "generate P-256": _order_generates,
    "sign by P-256": _order_signs,
}
"""The calls that the handlers of orders make."""


async def as_order(card: ReturningCard, job: str, facts: CardFacts) -> None:
    """One job as an order has it done, from the look at the card to its reset."""
    try:
        await AS_ORDER[job](card, facts)
    finally:
        await card.close()
