"""The operation *unblock PIN* of a physical card: a new PIN by the card's PUK; nothing is certified."""

from __future__ import annotations

from portal.processes.operations.card_stays import CardStays
from protocol.messages import UnblockPin


class UnblockPinOperation(CardStays[UnblockPin]):
    """See ``portal.processes.operation.OrderOperation``."""

    kind = UnblockPin
    action = "card.pin_unblocked"
