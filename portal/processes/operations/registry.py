"""Which module carries out which operation: one line for each, as ``protocol.operations.Operation`` has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from portal.processes.operations.authenticate import AuthenticateOperation
from portal.processes.operations.block_card import BlockCardOperation
from portal.processes.operations.change_pin import ChangePinOperation
from portal.processes.operations.change_puk import ChangePukOperation
from portal.processes.operations.create_virtual_card import CreateVirtualCardOperation
from portal.processes.operations.delete_virtual_card import DeleteVirtualCardOperation
from portal.processes.operations.encode_card import EncodeCardOperation
from portal.processes.operations.read_card import ReadCardOperation
from portal.processes.operations.sign import SignOperation
from portal.processes.operations.unblock_pin import UnblockPinOperation
from portal.processes.operations.verify_pin import VerifyPinOperation

if TYPE_CHECKING:
    from portal.processes.operation import OrderOperation
    from portal.store.tables import Order

OPERATIONS: Final[dict[str, OrderOperation]] = {
    "create_virtual_card": CreateVirtualCardOperation(),
    "change_pin": ChangePinOperation(),
    "delete_virtual_card": DeleteVirtualCardOperation(),
    "encode_card": EncodeCardOperation(),
    "authenticate": AuthenticateOperation(),
    "sign": SignOperation(),
    "read_card": ReadCardOperation(),
    "unblock_pin": UnblockPinOperation(),
    "change_puk": ChangePukOperation(),
    "verify_pin": VerifyPinOperation(),
    "block_card": BlockCardOperation(),
}


def operation_of(order: Order) -> OrderOperation:
    """The operation of an order that this portal has begun."""
    return OPERATIONS[order.operation]
