"""``TempCardsProcProduce``: a blank card in the operator's reader becomes a temporary card that can be given out.

It gets its identity, a PUK and a management key of its own, and a PIN that nobody knows. It has no certificates until
it is encoded for a holder, so nothing of it has to be revoked when it fails.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, cast

from portal.encoding import binding
from portal.errors import WrongState
from portal.model.options import Form, Option
from portal.model.states import OrderState, ProcessState, Role, TemporaryCardState
from portal.processes import card_objects, card_orders, encodings, temporary_cards
from portal.processes.card_pieces import ANOTHER
from portal.processes.definition import OPEN, Definition, Step, finish, open_order
from portal.processes.endings import DETAILS
from portal.processes.temporary_card_encoding import management_of
from portal.store import objects
from portal.store.tables import ManagedCard
from protocol.errors import InlayError
from protocol.messages import CardIdentity, EncodeCard
from protocol.messages import Step as OrderStep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.processes.definition import Parties, Turn
    from portal.store.tables import Card, Order, Process

SAME: Final[Literal["same"]] = "same"
OTHER: Final[Literal["another"]] = "another"
PIECE: Final = Option(
    "Piece",
    "Which card is put in",
    "The first card of this name is any blank one. One that was begun and failed can be finished, and one that was "
    "made be written again. Another blank one takes its place for good: throw the one before away.",
    "choice",
    SAME,
    choices=(SAME, OTHER),
    captions={
        SAME: "The card that was begun",
        OTHER: "Another blank card",
    },
)
NOTE: Final = "place"
"""Process variable: where the card stands among others that are made with it, for people."""
_RESUME_WITHIN: Final = 3600
_SHELF_LIFE: Final = 3650 * temporary_cards.DAY
"""How long the identity is good that it has until its first holder's encoding gives it another."""
_PIN_LENGTH: Final = 8
_TOLD_TO_NOBODY: Final = "nopin"
"""As ``CardsPINDelivery`` says it."""
_CLEARED: Final = ["9A", "9C", "9D", "9E"]


class ProduceTemporaryCard(Definition):
    """Requested, Failed or Unassigned to Unassigned: a Card Production task without certificates."""

    name = temporary_cards.PRODUCE
    title = "Produce temporary card"
    description = "Makes a blank card in your reader ready to be given out."
    role = Role.OPERATOR
    of_holder = False  # staff have it, whoever of them
    target = temporary_cards.in_states(
        (TemporaryCardState.REQUESTED, TemporaryCardState.FAILED, TemporaryCardState.UNASSIGNED)
    )
    steps = (
        Step("card", "Card", Form((PIECE,))),
        Step(OPEN, "Open Inlay"),
        Step(DETAILS, "Done", settled=True),
    )
    progress: ClassVar[Mapping[OrderStep, tuple[str, str]]] = {
        OrderStep.CONSENT: ("Your consent", "Inlay's window says what will happen."),
        OrderStep.BINDING: ("This browser", "It is made sure that this page and Inlay belong together."),
        OrderStep.CARD: ("Card", "Put the next card in the reader."),
        OrderStep.KEYS: ("Writing", "The card gets its identity, PUK and PIN. Leave it in the reader."),
        OrderStep.PROVING: ("Check", "The card gets its own management key."),
        OrderStep.FINISHED: ("Done", "The card is ready."),
    }

    def __init__(self, context: Context) -> None:
        self._context = context

    async def check(self, tx: AsyncSession, parties: Parties) -> None:
        """Not a card that failed while it was encoded for somebody, nor one that PKCS#11 makes.

        Raises:
            InlayError: ``card_with_holder``, ``card_not_made_ready``.
        """
        card = temporary_cards.card_of(parties)
        if card.driver != "piv":
            raise InlayError("card_not_made_ready")
        if await temporary_cards.failed_with_holder(tx, card):
            raise InlayError("card_with_holder", holder=parties.subject.email)

    async def variables(self, tx: AsyncSession, parties: Parties) -> dict[str, Any]:
        """The card and the account, and that nobody learns its PIN."""
        return {
            "card": objects.describe(temporary_cards.card_of(parties)),
            "user_id": parties.user.email,
            "pin_length": _PIN_LENGTH,
            "pin_delivery": _TOLD_TO_NOBODY,
        }

    async def advance(self, turn: Turn) -> None:
        """Make the order; from *open* that moves the process."""
        match turn.process.step:
            case "card":
                await self._order(turn)
            case "details":
                finish(turn, DETAILS)
            case _:
                state = turn.order.state if turn.order else "missing"
                raise WrongState("order", state, (OrderState.FINISHED.value,))

    async def _order(self, turn: Turn) -> None:
        known, card = turn.process.variables, temporary_cards.card_of(turn.parties)
        await card_orders.refuse_while_ordered(turn.tx, card)
        now, managed = self._context.clock(), await turn.tx.get(ManagedCard, card.id)
        # who makes it has it in hand, whoever entered it
        card.owner_id, turn.process.subject_id = turn.parties.user.id, None
        known[ANOTHER] = known[PIECE.name] == OTHER and card.state != TemporaryCardState.REQUESTED
        plan = binding.plan(encodings.PREPARE_TEMPORARY_CARD, known, driver="piv")
        label = card.label if NOTE not in known else f"{card.label} ({known[NOTE]})"
        operation = EncodeCard(
            **card_orders.named(card, guid=_guid(card, managed, another=known[ANOTHER]), label=label[:200]),
            valid_until=now + _SHELF_LIFE,
            pin=encodings.pin_entry(plan),
            keys=[],
            steps=encodings.card_steps(plan),
            identity=_identity(card, managed, another=known[ANOTHER]),
            management=management_of(None if known[ANOTHER] else managed),
            new_puk=True,
            clear_retired=True,
            clear=list(_CLEARED),
            objects=[] if known[ANOTHER] else await card_objects.left_by_others(turn.tx, card),
        )
        made = open_order(turn, operation, task=plan, resume_within=_RESUME_WITHIN, now=now)
        made.card_id = card.id

    def can_next(self, process: Process, order: Order | None) -> bool:
        """At the card, and in the end."""
        return process.state == ProcessState.RUNNING and process.step != OPEN

    def facts(self, process: Process) -> Mapping[str, str]:
        """What it gets."""
        found = {
            "It gets": "its identity, a PUK and a management key of its own",
            "PIN": "drawn by the portal and told to nobody; its holder chooses another one",
            "Certificates": "none before it is encoded for a holder",
        }
        if place := process.variables.get(NOTE):
            return {"Place": cast(str, place), **found}
        return found

    def cancel_effect(self, process: Process, order: Order | None) -> str:
        """What Cancel does at this step."""
        if process.step == DETAILS:
            return "This process is closed. The card stays as it is: ready."
        if order is None or order.state == OrderState.WAITING:
            return "Nothing was done yet. The card stays as it is."
        if order.changing_at is None:
            return "The card stays as it is."
        return "The card is being changed: it will be Failed. Produce it again to finish it."


def _guid(card: Card, managed: ManagedCard | None, *, another: bool) -> str:
    """What the card has in the end: no two cards, nor one that had a holder and the next, have the same."""
    if another:
        return secrets.token_hex(16)
    if managed is not None and managed.pending_guid is not None:
        return managed.pending_guid
    used = managed is not None and (managed.encoded_for is not None or managed.prepared_at is not None)
    return secrets.token_hex(16) if used else card.guid


def _identity(card: Card, managed: ManagedCard | None, *, another: bool) -> CardIdentity:
    """Any card that the portal doesn't know; of one that was begun what is known of it."""
    if another:
        return CardIdentity(unnamed=True)
    had = managed is not None and (managed.encoded_for is not None or managed.prepared_at is not None)
    serial = card.serial if card.serial.isdecimal() and len(card.serial) <= 20 else None
    return CardIdentity(
        previous=card.guid if had else None,
        serial=None if serial is None else str(int(serial)),
        unnamed=True,
    )
