"""Looking into signed messages without verifying them, as only a test may."""

from __future__ import annotations

from protocol import jose
from protocol.messages import CreateVirtualCard, EncodeCard, Envelope, Order


def sequence_of(token: str) -> int:
    """The ``seq`` of a message."""
    return jose.unverified_payload(token, jose.MESSAGE, Envelope).seq


def new_card(order: Order) -> CreateVirtualCard:
    """The parameters of an order that makes a card."""
    assert isinstance(order.parameters, CreateVirtualCard)
    return order.parameters


def certified(order: Order) -> CreateVirtualCard | EncodeCard:
    """The parameters of an order that gets certificates for a card, new or not."""
    assert isinstance(order.parameters, CreateVirtualCard | EncodeCard)
    return order.parameters
