"""What an order may ask for: one struct for each operation, with all its parameters.

``certifies`` tells whether the order goes by way of requests and certificates, or from *proceed* to the receipt.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from protocol.words import (
    Algorithm,
    CardGuid,
    Identifier,
    KeySource,
    Message,
    PinPolicy,
    PublicJwk,
    Purpose,
    ShortText,
    SlotName,
    StorageLevel,
    UnixTime,
)


class KeyOrder(Message, frozen=True):
    """One key and certificate of a card."""

    slot: SlotName
    purpose: Purpose
    algorithm: Algorithm
    source: KeySource
    subject: ShortText
    """subject as RFC 4514 text, for the request; the CA decides what it certifies"""


class CreateVirtualCard(Message, frozen=True, tag="create_virtual_card", tag_field="operation"):
    """Parameters of the operation *create virtual card*."""

    card: Identifier
    """the portal's id of the card"""
    label: ShortText
    """the profile's name"""
    server_name: ShortText
    valid_until: UnixTime
    pin_policy: PinPolicy
    keys: Annotated[list[KeyOrder], Meta(min_length=1, max_length=24)]
    storage: Annotated[list[StorageLevel], Meta(min_length=1, max_length=3)]
    """levels the portal's policy allows"""
    puk: Literal["escrow", "show"]
    escrow_key: PublicJwk | None = None
    """with ``escrow``: the PUK goes out as JWE to this key"""

    @property
    def certifies(self) -> bool:
        """A new card always gets certificates."""
        return True


class ChangePin(Message, frozen=True, tag="change_pin", tag_field="operation"):
    """Parameters of the operation *change PIN* of a card that is there."""

    card: Identifier
    """the portal's id of the card"""
    guid: CardGuid
    """which card: GUID of its CHUID"""
    label: ShortText
    pin_policy: PinPolicy
    """rules for the new PIN"""

    @property
    def certifies(self) -> bool:
        """Keys and certificates stay."""
        return False


class DeleteVirtualCard(Message, frozen=True, tag="delete_virtual_card", tag_field="operation"):
    """Parameters of the operation *delete virtual card*: the card is removed after the portal's ``finished``."""

    card: Identifier
    """the portal's id of the card"""
    guid: CardGuid
    """which card: GUID of its CHUID"""
    label: ShortText

    @property
    def certifies(self) -> bool:
        """Nothing is certified for a card that goes."""
        return False


Operation = CreateVirtualCard | ChangePin | DeleteVirtualCard
"""Every operation; told apart by the field ``operation``."""
