"""The process *Get virtual smart card*: information, Open Inlay, details, done."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from portal import option_store
from portal.encoding import binding
from portal.errors import WrongState
from portal.model.options import fill
from portal.model.states import OrderState, ProcessState, Role
from portal.model.virtual_card_options import NAME as OPTIONS
from portal.model.virtual_card_options import PIN_BYTES, VirtualCardOptions
from portal.processes import encodings
from portal.processes.days import date_text
from portal.processes.definition import OPEN, Definition, Step, finish, open_order
from portal.processes.endings import DETAILS
from protocol.messages import CreateVirtualCard, KeySource, Presence

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.encoding.binding import Encoding, Recoverable
    from portal.encoding.plan import Plan
    from portal.processes.context import Context
    from portal.processes.definition import Parties, Turn
    from portal.store.tables import Order, Process, User

INFORMATION: Final = "information"
DONE: Final = "done"


class GetVirtualSmartCard(Definition):
    """``VirtualSmartCardSelfServiceProcGet``."""

    name = "VirtualSmartCardSelfServiceProcGet"
    title = "Get virtual smart card"
    description = (
        "Makes a smart card on this computer, with certificates to log in, sign and receive encrypted mail."
    )
    role = Role.SELF_SERVICE
    encoding: ClassVar[Encoding] = encodings.GET_VIRTUAL_SMART_CARD
    steps = (
        Step(INFORMATION, "Information"),
        Step(OPEN, "Open Inlay"),
        Step(DETAILS, "Details", settled=True),
        Step(DONE, "Done", settled=True),
    )

    def __init__(self, context: Context) -> None:
        self._context = context

    async def variables(self, tx: AsyncSession, parties: Parties) -> dict[str, Any]:
        """Options and what follows from them for this user, as they are at the start."""
        saved = await option_store.current(tx, OPTIONS)
        options = VirtualCardOptions(saved.values)
        user = parties.subject
        known = {"email": user.email, "name": user.name, "portal": self._context.portal}
        return {
            "options": saved.values,
            "options_version": saved.version,
            "label": fill(options.template("ProfileName"), known),
            "user_id": fill(options.template("UserId"), known),
            "server_name": fill(options.template("ServerName"), known),
            "valid_until": self._context.clock() + options.validity_seconds,
            **encodings.chosen(options),
        }

    async def advance(self, turn: Turn) -> None:
        """Move on; from *open* the order itself moves the process."""
        process, order = turn.process, turn.order
        match process.step:
            case "information":
                options = self._options(process)
                plan = binding.plan(self.encoding, process.variables, await self._recoverable(turn))
                open_order(
                    turn,
                    self._parameters(process, turn.parties.user, options, plan),
                    task=plan,
                    resume_within=options.resume_within,
                    now=self._context.clock(),
                )
            case "details":
                finish(turn, DONE)
            case _:
                raise WrongState("order", order.state if order else "missing", (OrderState.FINISHED.value,))

    def can_next(self, process: Process, order: Order | None) -> bool:
        """At information and details."""
        return process.state == ProcessState.RUNNING and process.step in (INFORMATION, DETAILS)

    def facts(self, process: Process) -> Mapping[str, str]:
        """What will be made, or was."""
        options = self._options(process)
        return {
            "Card": process.variables["label"],
            "Account": process.variables["user_id"],
            "Certificates": ", ".join(key.purpose.value for key in options.keys),
            "Valid until": date_text(process.variables["valid_until"]),
            "PIN": _pin_text(options),
            "Encryption key": _encryption_text(options),
        }

    def cancel_effect(self, process: Process, order: Order | None) -> str:
        """What Cancel does at this step."""
        if process.step == DETAILS:
            return "This process is closed. The card stays as it is: active."
        if order is None or order.state == OrderState.WAITING:
            return "Nothing was made yet. The process is closed."
        return "What was made so far is undone: certificates are revoked and no card is left on the computer."

    async def _recoverable(self, turn: Turn) -> dict[str, Recoverable]:
        """The certificates that may be recovered on to the card, by id: of a first card none."""
        return {}

    def _parameters(
        self, process: Process, user: User, options: VirtualCardOptions, plan: Plan
    ) -> CreateVirtualCard:
        escrow = options.puk == "escrow"
        return CreateVirtualCard(
            card=secrets.token_hex(16),
            label=plan.label or process.variables["label"],
            server_name=process.variables["server_name"],
            valid_until=process.variables["valid_until"],
            pin_policy=options.pin_policy,
            keys=encodings.key_orders(plan, user.name, process.variables["user_id"]),
            storage=options.storage,
            puk=options.puk,
            escrow_key=self._context.keys.escrow().public if escrow else None,
        )

    @staticmethod
    def _options(process: Process) -> VirtualCardOptions:
        return VirtualCardOptions(cast("dict[str, Any]", process.variables["options"]))


def _pin_text(options: VirtualCardOptions) -> str:
    policy = options.pin_policy
    longest = policy.max_length if policy.agent_only else min(policy.max_length, PIN_BYTES)
    words = {
        "upper case letters": policy.upper,
        "lower case letters": policy.lower,
        "digits": policy.digits,
        "special characters": policy.special,
    }
    text = f"{policy.min_length} to {longest} characters"
    if needed := [word for word, presence in words.items() if presence is Presence.REQUIRED]:
        text += f", with {', '.join(needed)}"
    if refused := [word for word, presence in words.items() if presence is Presence.DISALLOWED]:
        text += f", without {', '.join(refused)}"
    return text


def _encryption_text(options: VirtualCardOptions) -> str:
    sources = {key.source for key in options.keys if key.purpose == "encryption"}
    if not sources:
        return "none"
    if KeySource.IMPORT in sources:
        return "kept in the portal's archive, so that a new card can read old mail"
    return "on this card alone; what it encrypted is lost with the card"
