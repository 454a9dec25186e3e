"""The operation *block card*: PIN and PUK of a Locked card are unusable on the card itself."""

from __future__ import annotations

from portal.processes.operations.card_stays import CardStays
from protocol.messages import BlockCard


class BlockCardOperation(CardStays[BlockCard]):
    """See ``portal.processes.operation.OrderOperation``."""

    kind = BlockCard
    action = "card.blocked"
