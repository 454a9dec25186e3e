"""``CardsProcIssue``: an operator encodes a card that was approved, and prints the letters with its PIN and PUK."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from sqlalchemy import select

from portal.encoding.piv_rules import Part
from portal.errors import FieldErrors, WrongState
from portal.model.objects import CoreObject
from portal.model.options import Form, Option
from portal.model.states import CardState, OrderState, ProcessState, Role, UserState
from portal.processes import (
    activation,
    attestation,
    card_descriptions,
    card_encodings,
    card_letters,
    card_objects,
    card_orders,
    card_serials,
    cards,
    earlier_keys,
    encodings,
    temporary_cards,
)
from portal.processes.definition import BINDING, OPEN, Definition, Step, finish, open_order
from portal.processes.endings import DETAILS
from portal.processes.extend_temporary_card import order_part
from portal.processes.temporary_card_encoding import (
    attestation_fact,
    encryption_key_fact,
    left_by_others,
)
from portal.store import objects
from portal.store.tables import Card, Order
from protocol.errors import InlayError
from protocol.messages import CardIdentity, EncodeCard, ManagementKey
from protocol.messages import Step as OrderStep

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.processes.definition import Parties, Turn
    from portal.store.tables import Process
    from portal.views import LetterView

SERIAL: Final = Option(
    "Serial",
    "Serial number",
    "As it stands on the card that you have in hand: digits and the letters A to F. Of a card that is made through "
    "PKCS#11: as its module tells it.",
    "text",
    "",
    low=1,
    high=40,
)
_LABEL_LENGTH: Final = 200


class IssueCard(Definition):
    """Approved or Failed to Issued: a Card Production task, and the letters."""

    name = "CardsProcIssue"
    title = "Issue card"
    description = "Writes the card in your reader for this person, who gets PIN and PUK as the options say."
    role = Role.OPERATOR
    subject_states: ClassVar[frozenset[UserState]] = frozenset({UserState.ACTIVE})
    target = cards.in_states((CardState.APPROVED, CardState.FAILED))
    steps = (
        Step("card", "Card", Form((SERIAL,))),
        Step(OPEN, "Open Inlay"),
        Step(DETAILS, "PIN and PUK", settled=True),
        Step("done", "Done", settled=True),
    )
    progress = {  # noqa: RUF012  # read only
        OrderStep.CONSENT: ("Your consent", "Inlay's window says what will happen."),
        OrderStep.BINDING: BINDING,
        OrderStep.CARD: ("Card", "Put the card in the reader. It gets the PIN that the portal has drawn."),
        OrderStep.KEYS: ("Keys", "The card's keys are made."),
        OrderStep.CERTIFICATES: ("Certificates", "The portal has the certificates issued, on hold for now."),
        OrderStep.WRITING: ("Writing", "The certificates are written. Leave the card in the reader."),
        OrderStep.PROVING: ("Check", "Every key of the card proves itself."),
        OrderStep.FINISHED: ("Done", "The card is issued."),
    }

    def __init__(self, context: Context) -> None:
        self._context = context

    async def check(self, tx: AsyncSession, parties: Parties) -> None:
        """PIN and PUK must get to the holder as the options say, and the card's description must be there.

        Raises:
            InlayError: ``card_mail_missing``, ``card_mail_address``, ``card_description_missing``,
                ``card_pkcs11_no_attestation``, ``attestation_no_roots``.
        """
        card, found = temporary_cards.card_of(parties), await cards.options(tx)
        proves = found.encoding.attest == "required"
        card_descriptions.part_of(self._context, card, Part.ISSUE)
        if proves and card.driver == "pkcs11":
            raise InlayError("card_pkcs11_no_attestation", option="CardsAttestation")
        if proves:
            attestation.check_makers(self._context)
        cards.check_delivery(self._context, found.pin_delivery, found.puk_delivery, parties.subject)

    async def variables(self, tx: AsyncSession, parties: Parties) -> dict[str, Any]:
        """The card, its holder, and the options."""
        options, card = await cards.options(tx), temporary_cards.card_of(parties)
        return {
            "card": objects.describe(card),
            "user_id": parties.user.email,
            "holder": parties.subject.email,
            "validity": options.encoding.validity,
            "attest": options.encoding.attest,
            "pin_length": options.pin_length,
            "puk_length": options.puk_length,
            "pin_delivery": options.pin_delivery,
            "puk_delivery": options.puk_delivery,
            **await card_encodings.foretold(self._context, tx, card, options.encoding),
        }

    async def advance(self, turn: Turn) -> None:
        """Make the order; from *open* that moves the process. When all letters are printed their PIN is deleted.

        Raises:
            FieldErrors: the serial number won't do.
            InlayError: ``letter_not_printed``.
        """
        match turn.process.step:
            case "card":
                await self._order(turn)
            case "details":
                await card_letters.check_printed(turn.tx, turn.process)
                await card_letters.forget_of(turn.tx, turn.process.id)
                finish(turn, "done")
            case _:
                state = turn.order.state if turn.order else "missing"
                raise WrongState("order", state, (OrderState.FINISHED.value,))

    async def cancelled(self, tx: AsyncSession, process: Process, actor: str) -> None:
        """Whoever doesn't print the letters leaves no PIN behind: its holder may set one."""
        letters = await card_letters.of_process(tx, process)
        process.variables[activation.UNTOLD] = [letter.kind for letter in letters if letter.prints == 0]
        await card_letters.forget_of(tx, process.id)

    async def letters(self, tx: AsyncSession, process: Process) -> Sequence[LetterView]:
        """What can be printed at the step behind the order."""
        if process.step != DETAILS or process.state != ProcessState.RUNNING:
            return ()
        return await card_letters.of_process(tx, process)

    async def letter(self, tx: AsyncSession, process: Process, kind: str, actor: str) -> bytes:
        """Print one."""
        card = cast(CoreObject, process.variables["card"])
        return await card_letters.print_one(self._context, tx, process, card.id, kind, actor)

    def can_next(self, process: Process, order: Order | None) -> bool:
        """At card and letters."""
        return process.state == ProcessState.RUNNING and process.step != OPEN

    def facts(self, process: Process) -> Mapping[str, str]:
        """What is written, and how the holder learns PIN and PUK."""
        known = process.variables
        found = {
            "Validity": f"{known['validity'] // temporary_cards.DAY} days",
            "Certificates": ", ".join(known["purposes"]),
            **encryption_key_fact(known),
            **earlier_keys.fact(known),
            **card_encodings.described_facts(known),
            **attestation_fact(known),
            "PIN": _PIN[known["pin_delivery"]].format(digits=known["pin_length"]),
            "PUK": _PUK[known["puk_delivery"]],
        }
        if serial := known.get(SERIAL.name):
            found["Serial number"] = serial
        return found

    def cancel_effect(self, process: Process, order: Order | None) -> str:
        """What Cancel does at this step."""
        if process.step == DETAILS:
            if process.variables["pin_delivery"] == "nopin":
                return (
                    "The card stays issued. Its holder sets a PIN with Set PIN, before activating the card."
                )
            return (
                "The card stays issued. A PIN that was not printed is deleted: its holder sets another one with "
                "Set PIN, before activating the card. A mail with PIN or PUK is sent all the same."
            )
        if order is None or order.state == OrderState.WAITING:
            return "Nothing was done yet. The card stays as it is."
        if order.changing_at is None:
            return "The card stays as it is. Certificates that were issued for it are revoked."
        return (
            "The card is being changed: it will be Failed, and its certificates are revoked. "
            "Issue it again to finish it."
        )

    async def _order(self, turn: Turn) -> None:
        card, now = temporary_cards.card_of(turn.parties), self._context.clock()
        await card_orders.refuse_while_ordered(turn.tx, card)
        card.serial = await self._serial(turn, card)
        options = await cards.options(turn.tx)
        known = turn.process.variables
        subject = turn.parties.subject
        cards.check_delivery(self._context, known["pin_delivery"], known["puk_delivery"], subject)
        known.update(await card_encodings.variables(self._context, turn.tx, card, options.encoding))
        if known["attest"] == "required":
            attestation.check_possible(self._context, card)
        label = known["label"] = f"{card.label} for {subject.email}"[:_LABEL_LENGTH]
        plan = await card_encodings.plan(self._context, turn.tx, card, known)
        keys = encodings.key_orders(plan, subject.name, subject.email)
        operation = EncodeCard(
            **card_orders.named(card, guid=known["guid"], label=plan.label or label),
            valid_until=now + cast(int, known["validity"]),
            pin=encodings.pin_entry(plan),
            new_puk=True,
            reset=known["reset"],
            keys=keys,
            steps=encodings.card_steps(plan),
            identity=order_part(CardIdentity, known["identity"]),
            management=order_part(ManagementKey, known["management"]),
            clear_retired=known.get("clear_retired", False) and not plan.initialise,
            clear=await left_by_others(turn.tx, card, keys) if known["first"] and not plan.initialise else [],
            attest=known["attest"],
            objects=await card_objects.ordered(turn.tx, card, plan, fresh=known["first"]),
        )
        made = open_order(turn, operation, task=plan, resume_within=known["resume_within"], now=now)
        made.card_id = card.id

    async def _serial(self, turn: Turn, card: Card) -> str:
        """The serial number of the card in hand; a card that failed is finished, and no other in its place."""
        serial = card_serials.typed(cast(str, turn.values[SERIAL.name]), card.driver, SERIAL.name)
        undoing = select(Order.jti).where(Order.card_id == card.id, Order.state == OrderState.UNDOING.value)
        fixed = (
            card.state == CardState.FAILED or (await turn.tx.scalars(undoing.limit(1))).first() is not None
        )
        had = bool(card.serial) and card_serials.same(serial, card.serial, card.driver)
        if card.serial and not had and fixed:
            began = f"The card that was begun has the number {card.serial}."
            raise FieldErrors({SERIAL.name: f"{began} Take that one, or abort it and request another."})
        if (other := await card_serials.taken_before(turn.tx, serial, card.driver, but=card.id)) is not None:
            raise FieldErrors({SERIAL.name: f"The card {other} has this serial number."})
        return card.serial if had and fixed else serial


_PIN: Final = {
    "print": "{digits} digits, drawn by the portal; a letter tells it",
    "email": "{digits} digits, drawn by the portal; a mail tells it",
    "nopin": "{digits} digits, drawn by the portal and told to nobody; the holder sets another one with Set PIN",
}
_PUK: Final = {
    "nopuk": "drawn by the portal, which keeps it",
    "print": "drawn by the portal, which keeps it; a letter tells it",
    "email": "drawn by the portal, which keeps it; a mail tells it",
}
