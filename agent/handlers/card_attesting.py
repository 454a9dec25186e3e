"""What a physical card states of the keys that an order has it make, for the portal to judge.

Whether a card can is asked before anything is changed on it. What it states is passed on as it is: the portal believes
no agent, and checks it itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from agent.pcsc import piv_attestation
from protocol import codec
from protocol.errors import InlayError
from protocol.messages import KeySource

if TYPE_CHECKING:
    from agent.order_ports import OrderContext
    from agent.returning_card import ReturningCard
    from protocol.messages import EncodeCard, Requests

MOST_REQUIRED: Final = 10
"""So many statements of the greatest length, beside 24 requests, fit into one frame."""
_LONGEST: Final = 1_536
_MOST_BYTES: Final = (codec.MAX_FRAME_BYTES - 2_048) * 3 // 4
"""Of a message's body: it is signed, which makes four characters of three bytes, and wrapped."""
_UNSTATED: Final = frozenset(
    {"card_key_missing", "card_refused", "card_feature_missing", "card_answer_malformed"}
)


def check_attested(ordered: EncodeCard) -> None:
    """Check that all statements that an order requires can be sent.

    Raises:
        InlayError: ``encoding_unsupported``.
    """
    if ordered.attest == "required" and len(_may_be_made(ordered)) > MOST_REQUIRED:
        raise InlayError("encoding_unsupported", what=f"attestation of more than {MOST_REQUIRED} keys")


class Attesting:
    """The statements of one order."""

    def __init__(self, context: OrderContext, card: ReturningCard, ordered: EncodeCard) -> None:
        self._context, self._card, self._ordered = context, card, ordered
        self._required = ordered.attest == "required"
        self._issuer: bytes | None = None

    async def prepare(self) -> None:
        """Ask the card whether it can, before anything is changed on it.

        Raises:
            InlayError: ``card_attestation_missing``: it can't, and has to.
        """
        if self._ordered.attest == "no" or not _made(self._ordered):
            return
        issuer = await self._context.guard(self._card.run(piv_attestation.issuer))
        if issuer is not None and len(issuer) <= _LONGEST:
            self._issuer = issuer
        elif self._required:
            raise InlayError("card_attestation_missing")

    def settle(self, ordered: EncodeCard) -> None:
        """The order as it is settled with the card by now: which keys that makes, it has to state."""
        self._ordered = ordered

    async def attested(self, asking: Requests) -> Requests:
        """Add what the card states of the keys that it has made; where it isn't required, as much as fits.

        Raises:
            InlayError: ``card_attestation_refused``: it doesn't state what it has to.
        """
        if self._issuer is None:
            return asking
        made, requests = _made(self._ordered), list(asking.requests)
        for place, request in enumerate(requests):
            if request.slot in made:
                statement = await self._statement(request.slot)
                requests[place] = msgspec.structs.replace(request, attestation=statement)
        found = msgspec.structs.replace(asking, requests=requests, attestation_issuer=self._issuer)
        for place in reversed(range(len(requests))):
            if len(codec.encode(found)) <= _MOST_BYTES:
                break
            if self._required and requests[place].attestation is not None:
                raise InlayError("encoding_unsupported", what="requests that don't fit into one message")
            requests[place] = msgspec.structs.replace(requests[place], attestation=None)
            found = msgspec.structs.replace(found, requests=requests)
        if all(request.attestation is None for request in requests):
            return asking
        return found

    async def _statement(self, slot: str) -> bytes | None:
        try:
            statement = await self._context.guard(self._card.run(piv_attestation.statement, int(slot, 16)))
        except InlayError as error:
            if error.code not in _UNSTATED:
                raise
            statement = b""
        if 4 <= len(statement) <= _LONGEST:
            return statement
        if self._required:
            raise InlayError("card_attestation_refused", slot=slot)
        return None


def _may_be_made(ordered: EncodeCard) -> frozenset[str]:
    """Before the card is there: one that takes no keys makes those itself that others are given."""
    could = (KeySource.GENERATE, KeySource.IMPORT_IF_POSSIBLE)
    return frozenset(key.slot for key in ordered.keys if key.source in could)


def _made(ordered: EncodeCard) -> frozenset[str]:
    return frozenset(key.slot for key in ordered.keys if key.source is KeySource.GENERATE)
