"""Which handler answers which method and carries out which order: one line for each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from agent.card_ports import CardKeeping
from agent.conversation import Conversation
from agent.handlers import (
    change_card_pin,
    check_computer,
    delete_card,
    diagnose,
    enter_code,
    hello,
    list_cards,
    list_readers,
    open_link,
    show_card,
    start_over,
    stop_agent,
    trust_add,
    trust_list,
    trust_remove,
    unblock_card,
    watch_readers,
)
from agent.handlers.authenticate import AuthenticateHandler
from agent.handlers.block_physical_card import BlockPhysicalCardHandler
from agent.handlers.by_driver import ByDriver
from agent.handlers.change_physical_pin import ChangePhysicalPinHandler
from agent.handlers.change_physical_puk import ChangePhysicalPukHandler
from agent.handlers.change_pin import ChangePinHandler
from agent.handlers.create_virtual_card import CreateVirtualCardHandler
from agent.handlers.delete_virtual_card import DeleteVirtualCardHandler
from agent.handlers.encode_card import EncodeCardHandler
from agent.handlers.encode_physical_card import EncodePhysicalCardHandler
from agent.handlers.encode_token import EncodeTokenHandler
from agent.handlers.read_card import ReadCardHandler
from agent.handlers.sign import SignHandler
from agent.handlers.unblock_physical_pin import UnblockPhysicalPinHandler
from agent.handlers.verify_physical_pin import VerifyPhysicalPinHandler
from agent.order_ports import Ending, OrderHandler, PageRequest, PrivateRequest, Services
from agent.ordered_card import CardReaders
from agent.virtual_card_ports import Cards
from protocol.messages import (
    Authenticate,
    BlockCard,
    ChangePin,
    ChangePuk,
    CreateVirtualCard,
    DeleteVirtualCard,
    EncodeCard,
    Message,
    ReadCard,
    Sign,
    UnblockPin,
    VerifyPin,
)

PrivateHandler = Callable[[Services, PrivateRequest], Awaitable[dict[str, Any] | Ending | Conversation]]
PageHandler = Callable[[Services, PageRequest], Awaitable[Message]]
OrderHandlerMaker = Callable[[Cards, CardKeeping, CardReaders], OrderHandler]

PRIVATE: Final[dict[str, PrivateHandler]] = {
    "open": open_link.handle,
    "code": enter_code.handle,
    "cards": list_cards.handle,
    "cards.show": show_card.handle,
    "cards.window": show_card.handle_window,
    "cards.change_pin": change_card_pin.handle,
    "cards.unblock": unblock_card.handle,
    "cards.delete": delete_card.handle,
    "diagnose": diagnose.handle,
    "readers": list_readers.handle,
    "stop": stop_agent.handle,
    "start_over": start_over.handle,
    "start_over.confirm": start_over.handle_confirmation,
    "trust.add": trust_add.handle,
    "trust.confirm": trust_add.handle_confirmation,
    "trust.list": trust_list.handle,
    "trust.remove": trust_remove.handle,
}
"""Methods of the private socket."""

PAGE: Final[dict[str, PageHandler]] = {
    "hello": hello.handle_page,
    "open": open_link.handle_page,
    "list_readers": list_readers.handle_page,
    "watch_readers": watch_readers.handle_page,
    "check_computer": check_computer.handle_page,
}
"""Methods of the loopback socket: all of ``protocol.messages.LOOPBACK_METHODS``."""

ORDERS: Final[dict[type[Message], OrderHandlerMaker]] = {
    CreateVirtualCard: lambda cards, _care, _readers: CreateVirtualCardHandler(cards),
    ChangePin: lambda _cards, care, readers: ByDriver(
        {
            "virtual": ChangePinHandler(care),
            "piv": ChangePhysicalPinHandler(readers),
            "pkcs11": ChangePhysicalPinHandler(readers),
        }
    ),
    UnblockPin: lambda _cards, _care, readers: UnblockPhysicalPinHandler(readers),
    ChangePuk: lambda _cards, _care, readers: ChangePhysicalPukHandler(readers),
    VerifyPin: lambda _cards, _care, readers: VerifyPhysicalPinHandler(readers),
    BlockCard: lambda _cards, _care, readers: BlockPhysicalCardHandler(readers),
    DeleteVirtualCard: lambda _cards, care, _readers: DeleteVirtualCardHandler(care),
    EncodeCard: lambda _cards, care, readers: ByDriver(
        {
            "virtual": EncodeCardHandler(care),
            "piv": EncodePhysicalCardHandler(readers),
            "pkcs11": EncodeTokenHandler(readers),
        }
    ),
    ReadCard: lambda _cards, _care, readers: ReadCardHandler(readers),
    Authenticate: lambda _cards, care, readers: AuthenticateHandler(care, readers),
    Sign: lambda _cards, care, readers: SignHandler(care, readers),
}
"""Operations of orders: everything that ``protocol.messages.Order.parameters`` may hold."""


def order_handlers(cards: Cards, care: CardKeeping, readers: CardReaders) -> dict[type, OrderHandler]:
    """A handler for each operation, working on these virtual cards, and on the cards in these readers."""
    return {operation: make(cards, care, readers) for operation, make in ORDERS.items()}
