"""*Read card*: what a card in a reader tells of itself without a PIN. Nothing is changed on it, and no try spent."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from agent.awaited_card import GONE
from agent.handlers.order_steps import account_line, agree, ask
from agent.handlers.read_token import read_token
from agent.pcsc import piv_objects, piv_pin, piv_select
from agent.pcsc.piv_names import CERTIFICATES, PUK, SLOTS, slot_name
from agent.ports import InteractionError, OrderPrompt
from agent.token_presence import AWAY
from protocol.errors import DecodeError, InlayError
from protocol.messages import CardReading, CertificateOnCard, ReadCard, Receipt, Step

if TYPE_CHECKING:
    from agent.card_map import CardKind
    from agent.card_search import FoundCard
    from agent.order_ports import OrderContext
    from agent.ordered_card import CardReaders
    from agent.pcsc.connection import CardConnection
    from agent.pcsc.look import Evidence
    from protocol.messages import Order

_STEPS: Final = 3
_ROOM: Final = 30_000
"""Bytes of certificates for which there is room in a message: each three become four, twice, of 64 KiB."""
_IN_A_ROW: Final = 8
"""So often a card may go while it is read until that is given up."""
NO_GUID: Final = "0" * 32
_FEATURES: Final[
    tuple[Literal["attestation", "importing", "metadata", "moving", "new_management_key"], ...]
] = (
    "attestation",
    "importing",
    "metadata",
    "moving",
    "new_management_key",
)
_UNREADABLE: Final = frozenset({"card_answer_malformed", "card_refused", "card_pin_needed"})


class _Objects(NamedTuple):
    """What is read beside what a look shows."""

    puk_tries: int | None
    certificates: list[CertificateOnCard]
    omitted: int


class _AnyCard(NamedTuple):
    """Any card of a driver; see ``agent.card_search.Criterion``."""

    driver: str

    def is_met_by(self, shown: Evidence, kind: CardKind) -> bool:
        """Whether a card is one."""
        return kind.driver == self.driver and (kind.driver == "pkcs11" or shown.capabilities is not None)

    def is_named_by(self, shown: Evidence) -> bool:
        """Any will do: with several the person says which."""
        return False

    def why_not(self, shown: Evidence) -> InlayError:
        """Why a card that doesn't meet it is not the one."""
        return InlayError("card_other")


class ReadCardHandler:
    """The operation *read card*; see ``agent.order_ports.OrderHandler``."""

    def __init__(self, readers: CardReaders) -> None:
        """Read cards in these readers."""
        self._readers = readers

    def prompt(self, order: Order, portal_name: str) -> OrderPrompt:
        """The consent page."""
        _ordered(order)
        return OrderPrompt(
            portal_name=portal_name,
            origin=order.origin,
            account=account_line(order),
            title="Read a card",
            consequences=(
                "The portal is told what the card in the reader is: its identity and serial number, its certificates "
                "with the names in them, and how many tries of PIN and PUK are left.",
                "Nothing is changed on it. You are asked for no PIN.",
            ),
            pin_policy=None,
            confirm_label="Read",
        )

    async def perform(self, context: OrderContext) -> None:
        """From consent to the receipt."""
        ordered = _ordered(context.order)
        await context.progress(Step.CONSENT)
        (await ask(context, context.prompt)).wipe()
        await agree(context, total=_STEPS)
        await context.progress(Step.CARD)
        reading = await context.guard(self._read(context, ordered.driver))
        with contextlib.suppress(InteractionError):
            await context.window.show_progress(
                Step.FINISHED, "Waiting for the portal to confirm", _STEPS - 1, _STEPS, can_cancel=False
            )
        await context.send(Receipt(guid=reading.guid or NO_GUID, reading=reading))

    async def finish(self, context: OrderContext) -> None:
        """Nothing is left to be done."""
        with contextlib.suppress(InteractionError):
            await context.window.show_done("The card was read", ("The page shows what it is.",))

    async def undo(self, order: Order) -> None:
        """Nothing was changed."""

    async def _read(self, context: OrderContext, driver: str) -> CardReading:
        """Wait for a card, and read it; again when it went meanwhile."""

        async def show(text: str) -> None:
            await context.window.show_progress(Step.CARD.value, text, 1, _STEPS)

        for attempt in range(_IN_A_ROW):
            found = await self._readers.wait(context.window, _AnyCard(driver), "that is to be read", show)
            await show(f"Reading the card in the reader “{found.reader}”. Leave it there.")
            try:
                return await self._reading(found)
            except InlayError as error:
                if error.code not in GONE | AWAY or attempt == _IN_A_ROW - 1:
                    raise
        raise AssertionError

    async def _reading(self, found: FoundCard) -> CardReading:
        if found.kind is not None and found.kind.driver == "pkcs11":
            return await read_token(found.kind)
        seen = found.shown
        able = None if seen is None else seen.capabilities
        if seen is None or able is None or found.kind is None:
            raise InlayError("card_not_supported", atr="")
        async with self._readers.session(found) as session:
            read: _Objects = await session.run(read_objects)
        told: dict[str, Any] = {} if able.serial is None else {"serial": str(able.serial)}
        return CardReading(
            kind=found.kind.name[:200],
            guid=seen.guid,
            version=able.version,
            features=[name for name in _FEATURES if name in seen.features],
            pin_tries=seen.pin_tries,
            puk_tries=read.puk_tries,
            certificates=read.certificates,
            omitted=read.omitted,
            **told,
        )


def read_objects(card: CardConnection) -> _Objects:
    """Read the certificates, as many as there is room for; what can't be read is counted."""
    piv_select.select(card)
    certificates, omitted, room = [], 0, _ROOM
    for slot in SLOTS:
        try:
            content = piv_objects.read(card, CERTIFICATES[slot])
        except InlayError as error:
            if error.code not in _UNREADABLE:
                raise
            omitted += 1
            continue
        if content is None:
            continue
        der = piv_objects.certificate_in(content)
        if der is None or not 4 <= len(der) <= min(room, 12_000):
            omitted += 1
            continue
        room -= len(der)
        certificates.append(CertificateOnCard(slot=slot_name(slot), certificate=der))
    return _Objects(piv_pin.tries_left(card, PUK), certificates, omitted)


def _ordered(order: Order) -> ReadCard:
    if not isinstance(order.parameters, ReadCard):
        raise DecodeError("order_malformed", "$.parameters.operation")
    return order.parameters
