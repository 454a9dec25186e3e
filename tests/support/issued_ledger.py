"""Every certificate that the fake portal's CA has issued, and which of them count as valid.

The rules are the portal's (``portal.processes.operations.encode_card``, ``portal.processes.tasks``): a certificate is
on hold until the receipt of its order has proved its key. The order that is finished makes its own certificates valid,
and has those revoked that its slots had before. The one that is undone has its own revoked, and once it has said that
it changes the card those that its slots had before as well. `tests.faults.test_tears_at_portal` sees to it that the
portal itself does so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from tests.support.order_messages import certified

if TYPE_CHECKING:
    from cryptography import x509

    from protocol.messages import Order


class Standing(Enum):
    """What a certificate counts as."""

    ON_HOLD = "on hold"
    VALID = "valid"
    REVOKED = "revoked"


@dataclass
class Issued:
    """One certificate.

    Attributes:
        order: the ``jti`` of the order that it was issued for.
        card: the card that the order is about.
        slot: of its key, two hexadecimal digits.
        certificate: the certificate, with its public key.
        standing: what it counts as now.
    """

    order: str
    card: str
    slot: str
    certificate: x509.Certificate
    standing: Standing


@dataclass
class Ledger:
    """See the module.

    Attributes:
        entries: all of them, oldest first.
    """

    entries: list[Issued] = field(default_factory=list)

    def add(self, order: Order, slot: str, certificate: x509.Certificate, *, running: bool) -> None:
        """A certificate was issued; one that comes when its order isn't running any more is revoked at once."""
        standing = Standing.ON_HOLD if running else Standing.REVOKED
        self.entries.append(Issued(order.jti, certified(order).card, slot, certificate, standing))

    def finished(self, order: Order) -> None:
        """An order's receipt was taken."""
        for entry in self._of(order):
            if entry.standing is Standing.ON_HOLD:
                entry.standing = Standing.VALID
        self._supersede(order)

    def undone(self, order: Order, *, changing: bool) -> None:
        """An order was undone; ``changing``: it had said that it changes the card."""
        for entry in self._of(order):
            entry.standing = Standing.REVOKED
        if changing:
            self._supersede(order)

    def standing(self, standing: Standing) -> list[Issued]:
        """Those that count as this now."""
        return [entry for entry in self.entries if entry.standing is standing]

    def _of(self, order: Order) -> list[Issued]:
        return [entry for entry in self.entries if entry.order == order.jti]

    def _supersede(self, order: Order) -> None:
        """What the slots of an order had before on its card is revoked."""
        ordered = certified(order)
        slots = {key.slot for key in ordered.keys}
        for entry in self.entries:
            if entry.order != order.jti and entry.card == ordered.card and entry.slot in slots:
                entry.standing = Standing.REVOKED
