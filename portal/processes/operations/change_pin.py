"""The operation *change PIN* of a card that is there: nothing is certified, and the portal never sees a PIN."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portal.processes.operations.card_stays import CardStays
from protocol.messages import ChangePin

if TYPE_CHECKING:
    from portal.store.tables import Order
    from protocol.messages import Consented


class ChangePinOperation(CardStays[ChangePin]):
    """See ``portal.processes.operation.OrderOperation``."""

    kind = ChangePin
    action = "card.pin_changed"

    def check_consent(self, order: Order, consented: Consented) -> None:
        """The card's keys are kept as they are: a device has nothing to say of them."""
