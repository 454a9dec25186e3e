"""The operation *verify PIN* of a physical card: whether its holder's PIN is right; the portal never sees it."""

from __future__ import annotations

from portal.processes.operations.card_stays import CardStays
from protocol.messages import VerifyPin


class VerifyPinOperation(CardStays[VerifyPin]):
    """See ``portal.processes.operation.OrderOperation``."""

    kind = VerifyPin
    action = "card.pin_verified"
