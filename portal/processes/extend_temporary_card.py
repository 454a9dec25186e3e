"""``TempCardsProcExtend``: an operator extends a temporary card that is assigned, with or without encoding it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar, cast

from portal.encoding.piv_rules import Part
from portal.errors import WrongState
from portal.events import DEADLINES
from portal.model.graphs import Why
from portal.model.states import OrderState, ProcessState, Role, TemporaryCardState, UserState
from portal.processes import (
    attestation,
    card_descriptions,
    card_encodings,
    card_objects,
    card_orders,
    earlier_keys,
    encodings,
    expiry_mails,
    pin_entry,
    temporary_cards,
)
from portal.processes.days import date_text
from portal.processes.definition import BINDING, OPEN, Definition, Step, finish, open_order
from portal.processes.endings import DETAILS
from portal.processes.temporary_card_encoding import (
    attestation_fact,
    encryption_key_fact,
    left_by_others,
)
from portal.store.database import notify
from portal.store.tables import ManagedCard
from portal.store.transitions import StateChange, change_state
from protocol import codec
from protocol.errors import InlayError
from protocol.messages import CardIdentity, EncodeCard, ManagementKey, Message, PinPolicy, Presence
from protocol.messages import Step as OrderStep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.processes.definition import Parties, Turn
    from portal.store.tables import Card, Order, Process

M = TypeVar("M", bound=Message)

PIN_POLICY: Final = PinPolicy(
    upper=Presence.DISALLOWED, lower=Presence.DISALLOWED, special=Presence.DISALLOWED
)
"""Six to eight digits: what every PIV card takes, and every PIN pad."""


class ExtendTemporaryCard(Definition):
    """Without encoding *Next* extends and finishes; with it the card is encoded first, and is extended by that."""

    name = "TempCardsProcExtend"
    title = "Extend temporary card"
    description = "Lets the person keep the card for longer."
    role = Role.OPERATOR
    subject_states: ClassVar[frozenset[UserState]] = frozenset({UserState.ACTIVE})
    target = temporary_cards.in_states((TemporaryCardState.ASSIGNED, TemporaryCardState.FAILED))
    steps = (
        Step("information", "Information"),
        Step(OPEN, "Open Inlay"),
        Step(DETAILS, "Details", settled=True),
        Step("done", "Done", settled=True),
    )
    progress = {  # noqa: RUF012  # read only
        OrderStep.CONSENT: (
            "Consent",
            "Inlay's window says what will happen; where a new PIN is set it is chosen there.",
        ),
        OrderStep.BINDING: BINDING,
        OrderStep.CARD: (
            "Card",
            "Put the card in the reader. Its holder types the PIN where Inlay's window says.",
        ),
        OrderStep.KEYS: ("Keys", "The card's keys are made, or asked to sign for new certificates."),
        OrderStep.CERTIFICATES: ("Certificates", "The portal has the certificates issued."),
        OrderStep.WRITING: ("Writing", "The certificates are written. Leave the card in the reader."),
        OrderStep.PROVING: ("Check", "Every key of the card proves itself."),
        OrderStep.FINISHED: ("Done", "The card is extended."),
    }

    def __init__(self, context: Context) -> None:
        self._context = context

    async def check(self, tx: AsyncSession, parties: Parties) -> None:
        """A card that failed is finished by encoding it, and by nothing else.

        Raises:
            InlayError: ``attestation_no_roots``, ``attestation_no_serial``, ``card_description_missing``,
                ``card_pkcs11_no_attestation``; ``temporary_card_other``: it failed, and its holder has another one.
            WrongState: it failed, and nothing is encoded here, or nothing of its holder's was begun on it.
        """
        card, options = temporary_cards.card_of(parties), await temporary_cards.options(tx)
        if card.state == TemporaryCardState.FAILED:
            begun = await tx.get(ManagedCard, card.id)
            with_holder = await temporary_cards.failed_with_holder(tx, card)
            if begun is None or not options.encodes or not with_holder:
                raise WrongState("temporary_card", card.state, (TemporaryCardState.ASSIGNED.value,))
            await temporary_cards.check_only_one(tx, card)
        if not options.encodes:
            return
        card_descriptions.part_of(self._context, card, Part.ENCODE)
        if options.attest == "required" and card.driver == "pkcs11":
            raise InlayError("card_pkcs11_no_attestation", option="TempCardsAttestation")
        if options.attest == "required":
            attestation.check_possible(self._context, card)

    async def variables(self, tx: AsyncSession, parties: Parties) -> dict[str, Any]:
        """The card, until when it is valid now, by how much it is extended, and what is written on it."""
        known = await temporary_cards.described(tx, parties)
        card = temporary_cards.card_of(parties)
        options = await temporary_cards.options(tx)
        known |= {"valid_until": card.valid_until, "validity": options.validity, "encodes": options.encodes}
        if options.encodes:
            known |= await card_encodings.variables(self._context, tx, card, options)
            known |= await pin_entry.variables(self._context, tx, card)
            known |= {"user_id": parties.user.email, "holder": parties.subject.email}
        return known

    async def advance(self, turn: Turn) -> None:
        """Extend, or make the order that does; from *open* that moves the process."""
        match turn.process.step:
            case "information" if turn.process.variables["encodes"]:
                await self._order(turn)
            case "information":
                await self._extend(turn)
            case "details":
                finish(turn, "done")
            case _:
                state = turn.order.state if turn.order else "missing"
                raise WrongState("order", state, (OrderState.FINISHED.value,))

    async def _extend(self, turn: Turn) -> None:
        """Valid from now on for as long as the option said; never for less than it was."""
        now, card = self._context.clock(), temporary_cards.card_of(turn.parties)
        card.valid_until = max(card.valid_until, now + cast(int, turn.process.variables["validity"]))
        turn.process.variables["extended_until"] = card.valid_until
        change = StateChange(turn.parties.user.email, now, Why.EXTENDED)
        await change_state(turn.tx, card, TemporaryCardState.ASSIGNED, change, valid_until=card.valid_until)
        await expiry_mails.forget(self._context, turn.tx, card.id)
        notify(turn.tx, DEADLINES)
        finish(turn, "done")

    async def _order(self, turn: Turn) -> None:
        known, card = turn.process.variables, temporary_cards.card_of(turn.parties)
        await card_orders.refuse_while_ordered(turn.tx, card)
        now, managed = self._context.clock(), await turn.tx.get(ManagedCard, card.id)
        if known["first"] is not (managed is None or managed.encoded_for != card.owner_id):
            # encoded since, for its holder or for another one in between
            options = await temporary_cards.options(turn.tx)
            known.update(await card_encodings.variables(self._context, turn.tx, card, options))
        fresh = bool(known["first"])
        label = known["label"] = f"{card.label} for {turn.parties.subject.email}"[:200]
        plan = await card_encodings.plan(self._context, turn.tx, card, known)
        until = now + cast(int, known["validity"])
        keys = encodings.key_orders(plan, turn.parties.subject.name, turn.parties.subject.email)
        operation = EncodeCard(
            **card_orders.named(card, guid=known["guid"], label=plan.label or label),
            valid_until=until,
            pin=encodings.pin_entry(
                plan, PIN_POLICY if plan.set_pin else None, self._where(turn.process, card)
            ),
            keys=keys,
            steps=encodings.card_steps(plan),
            identity=order_part(CardIdentity, known["identity"]),
            management=order_part(ManagementKey, known["management"]),
            clear_retired=known.get("clear_retired", False) and not plan.initialise,
            clear=await left_by_others(turn.tx, card, keys) if fresh and not plan.initialise else [],
            new_puk=known["new_puk"],
            reset=known.get("reset", False),
            attest=known.get("attest", "no"),  # a process of an earlier version has none
            objects=await card_objects.ordered(turn.tx, card, plan, fresh=fresh),
        )
        turn.process.variables["extended_until"] = until
        made = open_order(turn, operation, task=plan, resume_within=known["resume_within"], now=now)
        made.card_id = card.id

    def _where(self, process: Process, card: Card) -> pin_entry.Where:
        """Where the PIN that stays is typed: a card's own description says so itself."""
        own = card_descriptions.part_of(self._context, card, Part.EXTEND)
        return pin_entry.of(process) if own is None else "window"

    def can_next(self, process: Process, order: Order | None) -> bool:
        """At information and details."""
        return process.state == ProcessState.RUNNING and process.step != OPEN

    def facts(self, process: Process) -> Mapping[str, str]:
        """Until when it was valid, and is; what is written."""
        known = process.variables
        days = cast(int, known["validity"]) // temporary_cards.DAY
        found = {
            "Valid until": date_text(cast(int, known["valid_until"])),
            "Extended to": f"{days} days from now",
        }
        if (until := known.get("extended_until")) is not None:
            found["Extended to"] = date_text(cast(int, until))
        if known["encodes"]:
            found["New certificates"] = ", ".join(known["purposes"])
            found["Keys"] = known["keys"]
            found |= encryption_key_fact(known) | earlier_keys.fact(known)
            found |= card_encodings.described_facts(known) | attestation_fact(known)
            found["PIN"] = "chosen anew by its holder" if known["first"] else "stays; its holder types it"
            found["Card"] = "has to be in a reader of this computer"
            if known.get("blocked"):
                found["Card"] = (
                    "PIN and PUK are blocked: Inlay's window asks before it erases the card, if it can be. It "
                    "has to be in a reader of this computer"
                )
        return found

    def cancel_effect(self, process: Process, order: Order | None) -> str:
        """What Cancel does at this step."""
        if process.step == DETAILS:
            return "This process is closed. The card stays as it is: extended."
        if order is None or order.state == OrderState.WAITING:
            return "Nothing was done yet. The card stays as it is."
        if order.changing_at is None:
            return "The card stays as it is. Certificates that were issued for it are revoked."
        return (
            "The card is being changed: it will be Failed, and its certificates are revoked. "
            "Extend it again to finish it."
        )


def order_part(type_: type[M], stored: object) -> M | None:
    """A struct of an order that was kept as JSON with the process."""
    return None if stored is None else codec.convert(stored, type_, malformed="internal")
