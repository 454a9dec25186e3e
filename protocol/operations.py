"""What an order may ask for: one struct for each operation, with all its parameters.

``certifies`` tells whether the order goes by way of requests and certificates, or from *proceed* to the receipt.
"""

from __future__ import annotations

import enum
from typing import Annotated, Literal

from msgspec import Meta, field

from protocol.words import (
    Algorithm,
    CardGuid,
    Identifier,
    KeyPinPolicy,
    KeySource,
    KeyTouchPolicy,
    ManagementAlgorithm,
    Message,
    Nonce,
    ObjectTag,
    PinPolicy,
    PublicJwk,
    Purpose,
    Sha256,
    ShortText,
    SlotName,
    StorageLevel,
    UnixTime,
    whole,
)


class KeyOrder(Message, frozen=True):
    """One key and certificate of a card."""

    slot: SlotName
    purpose: Purpose
    algorithm: Algorithm
    source: KeySource
    subject: ShortText
    """subject as RFC 4514 text, for the request; the CA decides what it certifies"""
    optional: bool = False
    """in a reader, with the source ``import``: a card that can't take it goes on without it, and
    ``requests.declined`` or a proof that is missing in the receipt says so"""
    pin_policy: KeyPinPolicy | None = None
    """with the driver ``piv``: when its use asks for the PIN; None: as the card has it for its place"""
    touch_policy: KeyTouchPolicy | None = None
    """with the driver ``piv``: when its use asks for a touch; None: as the card has it"""


class DataObject(Message, frozen=True):
    """One data object of a PIV card, written as it is (`protocol.data_objects` says which may be)."""

    tag: ObjectTag
    content: Annotated[bytes, Meta(min_length=1, max_length=12_000)] | None = None
    """the value inside of tag 53; None: it is deleted"""


class CardStep(enum.StrEnum):
    """What an order does with a card as a whole."""

    INITIALISE = "initialise"
    """everything on it is erased"""
    SET_PIN = "set_pin"
    SET_LABEL = "set_label"
    BLOCK = "block"
    """PIN and PUK are blocked"""


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
    driver: Literal["virtual", "piv", "pkcs11"] = "virtual"
    """how the card is talked to"""
    where: Literal["window", "pad", "auto"] = "window"
    """where the PIN is typed, as in `PinEntry`; ``pad`` not of the driver ``virtual``, nor with a PUK in escrow"""

    @property
    def certifies(self) -> bool:
        """Keys and certificates stay."""
        return False


class ManagementKey(Message, frozen=True):
    """The management key of a physical PIV card, which the portal proves (`ManagementQuestion`)."""

    algorithm: ManagementAlgorithm | None = None
    """of the key that it has; None: the portal doesn't know, the card is asked"""
    replace: Annotated[list[ManagementAlgorithm], Meta(max_length=4)] = field(default_factory=list)
    """it gets a key of its own, of the first of these that it takes; ``proceed`` brings one of each, in this order"""
    proves: bool = False
    """the card has to prove that it has this key, by mutual authentication, before it is told or given anything; PUKs
    and keys of ``proceed`` come in ``card_secrets`` then"""


class UnblockPin(Message, frozen=True, tag="unblock_pin", tag_field="operation"):
    """Parameters of the operation *unblock PIN* of a physical card: a new PIN by its PUK."""

    card: Identifier
    """the portal's id of the card"""
    driver: Literal["piv", "pkcs11"]
    """how the card is talked to"""
    guid: CardGuid
    """which card: GUID of its CHUID"""
    label: ShortText
    pin_policy: PinPolicy
    """rules for the new PIN"""
    puk: Literal["typed", "escrow"]
    """``escrow``: ``proceed`` brings it; ``typed``: the person has it"""
    management: ManagementKey | None = None
    """with the driver ``piv`` and ``escrow``: by what the card proves itself before it is told its PUK"""
    where: Literal["window", "pad", "auto"] = "window"
    """where the PIN is typed, as in `PinEntry`; ``pad`` not of the driver ``virtual``, nor with a PUK in escrow"""

    @property
    def certifies(self) -> bool:
        """Keys and certificates stay."""
        return False


class ChangePuk(Message, frozen=True, tag="change_puk", tag_field="operation"):
    """Parameters of the operation *change PUK* of a physical card: ``proceed`` brings the PUK that is to come.

    The receipt tells whether the card has the new one (``Receipt.puk_replaced``).
    """

    card: Identifier
    """the portal's id of the card"""
    driver: Literal["piv", "pkcs11"]
    """how the card is talked to; ``pkcs11``: the PUK is the PIN of the token's security officer"""
    guid: CardGuid
    """which card: GUID of its CHUID (``pkcs11``: see `protocol.tokens`)"""
    label: ShortText
    puk: Literal["typed", "escrow"] = "escrow"
    """where the PUK comes from that the card has: ``escrow``: ``proceed`` brings it; ``typed``: the person has it"""
    management: ManagementKey | None = None
    """with the driver ``piv`` and ``escrow``: by what the card proves itself before it is told its PUK"""

    @property
    def certifies(self) -> bool:
        """Keys and certificates stay."""
        return False


class VerifyPin(Message, frozen=True, tag="verify_pin", tag_field="operation"):
    """Parameters of the operation *verify PIN* of a physical card: the receipt tells that the person's PIN is right."""

    card: Identifier
    """the portal's id of the card"""
    driver: Literal["piv", "pkcs11"]
    """how the card is talked to"""
    guid: CardGuid
    """which card: GUID of its CHUID"""
    label: ShortText
    where: Literal["window", "pad", "auto"] = "window"
    """where the PIN is typed, as in `PinEntry`"""

    @property
    def certifies(self) -> bool:
        """Keys and certificates stay."""
        return False


class BlockCard(Message, frozen=True, tag="block_card", tag_field="operation"):
    """Parameters of the operation *block card*: the PIN of a physical card that is Locked is made unusable.

    With the driver ``piv`` its PUK, too: only a reset (``EncodeCard``) makes it usable after that. With ``pkcs11``
    whoever has the PUK can set another PIN. A card that is blocked already is a success.
    """

    card: Identifier
    """the portal's id of the card"""
    driver: Literal["piv", "pkcs11"]
    """how the card is talked to"""
    guid: CardGuid
    """which card: GUID of its CHUID (``pkcs11``: see `protocol.tokens`); no other card is ever told a wrong PIN"""
    label: ShortText

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


class PinEntry(Message, frozen=True):
    """How an order gets the PIN that it needs."""

    kind: Literal["none", "verify", "new", "change", "given"]
    """``verify``: the card's PIN once; ``new``: a new one twice; ``change``: the old one once, a new one twice;
    ``given``: nobody is asked, the portal gives the new one (``Proceed.pin``)"""
    where: Literal["window", "pad", "auto"] = "window"
    """``pad``: on the reader's PIN pad and nowhere else; ``auto``: there where the reader has one"""
    policy: PinPolicy | None = None
    """rules for a new PIN"""


class CardIdentity(Message, frozen=True):
    """Which physical card an order is about that doesn't have the order's GUID yet: one of which any of these holds.

    A card that has the order's GUID is the one in any case: an earlier order may have got as far as that.
    """

    previous: CardGuid | None = None
    """GUID that its CHUID has until the order's is written"""
    serial: Annotated[str, Meta(pattern=whole(r"[0-9]{1,20}"))] | None = None
    """what it says when it is asked for its serial number, decimal"""
    blank: bool = False
    """it has no CHUID, and doesn't tell a serial number that is another one"""
    printed: Annotated[str, Meta(pattern=whole(r"[!-~]([ -~]{0,38}[!-~])?"))] | None = None
    """the number printed on it: a card that none of the above names is the one where the person says so
    (`IdentityQuestion`); with it, that is asked of a ``blank`` one, too"""
    unnamed: bool = False
    """it is any card that doesn't say by its serial number that it is another one, and that the portal says is none of
    its own: that is asked of every card (`IdentityQuestion`), and of one that has a CHUID the person, too"""


class EncodeCard(Message, frozen=True, tag="encode_card", tag_field="operation"):
    """Parameters of the operation *encode card*: a card that is there gets keys and certificates.

    Without keys (by the driver ``piv``, with ``identity``, ``new_puk`` and a PIN that is given) the card is made ready
    for whoever gets it later: it gets its GUID, PUK, PIN and management key, nothing is certified, and the receipt
    follows ``proceed``.

    Keys are worked on in their order. Keys that aren't named stay as they are, but for those that `clear`,
    `clear_retired`, `reset` or ``initialise`` take away.
    """

    card: Identifier
    """the portal's id of the card"""
    driver: Literal["virtual", "piv", "pkcs11"]
    """how the card is talked to"""
    guid: CardGuid
    """which card: GUID of its CHUID (``pkcs11``: see `protocol.tokens`); with ``identity`` what it has in the end"""
    label: ShortText
    valid_until: UnixTime
    """end of the validity of its new certificates"""
    pin: PinEntry
    keys: Annotated[list[KeyOrder], Meta(max_length=24)]
    steps: Annotated[list[CardStep], Meta(max_length=8)] = field(default_factory=list)
    """what is done with the card as a whole, before its keys but ``block``, which is done last"""
    identity: CardIdentity | None = None
    """a physical card that gets the order's GUID with a fresh CHUID; None: it has it"""
    management: ManagementKey | None = None
    """with the driver ``piv``"""
    new_puk: bool = False
    """of a card in a reader, before its PIN: it gets the PUK that ``proceed`` brings, and keeps its own if it can't;
    with the driver ``pkcs11`` after ``initialise``, and with ``set_pin``"""
    reset: bool = False
    """with the driver ``piv``, ``printed``, ``set_pin`` and ``new_puk``: where PIN and PUK are both blocked the card
    is first put back to what its maker delivered, if its person agrees; ``puk`` of ``proceed`` is the maker's"""
    attest: Literal["no", "where_possible", "required"] = "no"
    """whether the card states that it made the keys that are made on it; ``required``: of 10 keys at the most"""
    clear_retired: bool = False
    """somebody else had the card: its retired keys go first (``piv``: those that its key history counts; ``pkcs11``:
    those that orders have brought)"""
    clear: Annotated[list[SlotName], Meta(max_length=4)] = field(default_factory=list)
    """in a reader: slots of keys that somebody else had, and that the order has no other key for; they go, with their
    certificates, before ``keys``"""
    objects: Annotated[list[DataObject], Meta(max_length=64)] = field(default_factory=list)
    """with the driver ``piv``, before ``keys``: at most eight of them with a content, 12,000 bytes altogether"""

    @property
    def certifies(self) -> bool:
        """It gets certificates, where it gets keys."""
        return bool(self.keys)


class ReadCard(Message, frozen=True, tag="read_card", tag_field="operation"):
    """Parameters of the operation *read card*: whatever card is in a reader, or the one that the person picks.

    Nothing is changed, no PIN is asked for and no try spent; the receipt tells what was read.
    """

    driver: Literal["piv", "pkcs11"]
    """how the card is talked to"""

    @property
    def certifies(self) -> bool:
        """Keys and certificates stay."""
        return False


class Authenticate(Message, frozen=True, tag="authenticate", tag_field="operation"):
    """Parameters of the operation *authenticate*: the card's authentication key (9A) signs for this origin alone.

    It signs what a Web eID authentication token's does, see ``protocol.proofs.authentication_input``.
    """

    card: Identifier
    """the portal's id of the card"""
    driver: Literal["virtual", "piv", "pkcs11"]
    """how the card is talked to"""
    guid: CardGuid
    """which card: GUID of its CHUID"""
    label: ShortText
    challenge: Nonce
    """drawn for this order"""
    where: Literal["window", "pad", "auto"] = "window"
    """where the PIN is typed, as in `PinEntry`; ``pad`` not of the driver ``virtual``"""

    @property
    def certifies(self) -> bool:
        """Keys and certificates stay."""
        return False


class Sign(Message, frozen=True, tag="sign", tag_field="operation"):
    """Parameters of the operation *sign*: the card's signature key (9C) signs a document's digest."""

    card: Identifier
    """the portal's id of the card"""
    driver: Literal["virtual", "piv", "pkcs11"]
    """how the card is talked to"""
    guid: CardGuid
    """which card: GUID of its CHUID"""
    label: ShortText
    document: ShortText
    """what is signed, as consent shows it"""
    digest: Sha256
    """of the document"""
    where: Literal["window", "pad", "auto"] = "window"
    """where the PIN is typed, as in `PinEntry`; ``pad`` not of the driver ``virtual``"""

    @property
    def certifies(self) -> bool:
        """Keys and certificates stay."""
        return False


Operation = (
    CreateVirtualCard
    | ChangePin
    | UnblockPin
    | ChangePuk
    | VerifyPin
    | BlockCard
    | DeleteVirtualCard
    | EncodeCard
    | ReadCard
    | Authenticate
    | Sign
)
"""Every operation; told apart by the field ``operation``."""
