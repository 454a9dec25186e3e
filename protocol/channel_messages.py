"""Frames, and what agent and portal say on the channel beside the messages of an order."""

from __future__ import annotations

import enum
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from protocol.words import (
    CardGuid,
    Code,
    CompactJws,
    ErrorData,
    Generation,
    Identifier,
    Message,
    Nonce,
    Origin,
    PortalId,
    PublicJwk,
    ShortText,
    StorageLevel,
    Thumbprint,
    Transport,
    UnixTime,
    whole,
)

# --- frames: JSON-RPC 2.0 ---------------------------------------------------------------------------------

FrameId = Annotated[int, Meta(ge=1, le=2**31)]


class Frame(Message, frozen=True):
    """Any JSON-RPC 2.0 frame. Which fields go together is checked by ``protocol.session``."""

    jsonrpc: Literal["2.0"]
    id: FrameId | UnsetType = UNSET
    method: Annotated[str, Meta(max_length=40, pattern=whole(r"[a-z_]+"))] | UnsetType = UNSET
    params: msgspec.Raw | UnsetType = UNSET
    result: msgspec.Raw | UnsetType = UNSET
    error: ErrorObject | UnsetType = UNSET


class ErrorObject(Message, frozen=True):
    """A JSON-RPC error: the number and text of ``protocol.errors``, the code and its fields in ``data``."""

    code: int
    message: Annotated[str, Meta(max_length=400)]
    data: ErrorData | None = None


class Empty(Message, frozen=True):
    """No parameters, or a result that says no more than that it was done."""


# --- channel: the agent calls the portal ------------------------------------------------------------------


class HelloParams(Message, frozen=True):
    """``hello``: the first frame on every connection. Nothing else is said before the peer is known."""

    versions: Annotated[list[Annotated[int, Meta(ge=1, le=1000)]], Meta(min_length=1, max_length=16)]


class ChannelHelloResult(Message, frozen=True):
    """The portal's answer: the version both use, and its key set, signed by its root key."""

    version: int
    key_set: CompactJws


class AuthenticateParams(Message, frozen=True):
    """``authenticate``: the agent asks the portal to prove that it holds an order key."""

    nonce: Nonce


class AuthenticateResult(Message, frozen=True):
    """``proof`` is a JWS of ``ChannelProof`` by an order key."""

    proof: CompactJws


class ChannelProof(Message, frozen=True):
    """Signed by an order key (``typ`` inlay-channel+jwt): binds the agent's nonce and tells the portal's time."""

    iss: PortalId
    aud: Literal["inlay"]
    nonce: Nonce
    portal_nonce: Nonce
    iat: UnixTime


class ClaimParams(Message, frozen=True):
    """``claim``: JWS of ``Claim`` by the device key."""

    claim: CompactJws


class DeviceInfo(Message, frozen=True):
    """What a device says of itself; shown to people, never relied on."""

    name: ShortText
    platform: ShortText
    version: ShortText


class CardGeneration(Message, frozen=True):
    """A virtual card that the device holds, and how old its file is."""

    guid: CardGuid
    generation: Generation


class Claim(Message, frozen=True):
    """Signed by the device key (``typ`` inlay-claim+jwt): asks for the order behind a code."""

    aud: PortalId
    code: Code
    nonce: Nonce
    portal_nonce: Nonce
    device_key: PublicJwk
    device: DeviceInfo
    transport: Transport
    storage: Annotated[list[StorageLevel], Meta(min_length=1, max_length=3)]
    """levels this machine can keep keys at, best first"""
    origin: Origin | None = None
    """origin of the page that handed the code over; loopback only"""
    cards: Annotated[list[CardGeneration], Meta(max_length=32)] = msgspec.field(default_factory=list)
    """cards of this portal that the device holds, so that a file that was put back is noticed"""


class ClaimResult(Message, frozen=True):
    """``order`` is a JWS of ``Order``; claimed again by the same device it is the same order."""

    order: CompactJws
    resumed: bool = False
    """the order had begun already: go on with ``resume``"""


class ResumeParams(Message, frozen=True):
    """``resume``: JWS of ``Resume`` by the device key."""

    resume: CompactJws


class Resume(Message, frozen=True):
    """Signed by the device key (``typ`` inlay-resume+jwt)."""

    aud: PortalId
    jti: Identifier
    portal_nonce: Nonce
    received: Annotated[int, Meta(ge=0, le=1_000_000)]
    """highest ``seq`` taken from the portal"""
    outcome: Literal["running", "undone"] = "running"
    """``undone``: the device has undone the order by itself"""


class OrderState(enum.StrEnum):
    """State of an order at the portal. ``finishing`` and ``undoing`` are won once and final."""

    RUNNING = "running"
    FINISHING = "finishing"
    FINISHED = "finished"
    UNDOING = "undoing"
    UNDONE = "undone"


class ResumeResult(Message, frozen=True):
    """Where the portal stands."""

    state: OrderState
    received: Annotated[int, Meta(ge=0, le=1_000_000)]
    """highest ``seq`` taken from the device: the device sends again what comes after"""
    error: ErrorData | None = None
    """why it was undone"""


class MessageParams(Message, frozen=True):
    """``message``, both ways: JWS of ``Envelope``. The empty result says: it is on disk here."""

    message: CompactJws


class KeySet(Message, frozen=True):
    """Signed by the portal's root key (``typ`` inlay-keyset+jwt): the keys that may sign now."""

    iss: PortalId
    version: Annotated[int, Meta(ge=1)]
    """never goes down"""
    iat: UnixTime
    exp: UnixTime
    order_keys: Annotated[list[OrderKey], Meta(min_length=1, max_length=8)]
    name: ShortText
    """the portal's name for people"""
    channel_path: Annotated[str, Meta(max_length=100, pattern=whole(r"/[a-z0-9/._-]*"))]
    """path of the channel below the portal's own origin"""


class OrderKey(Message, frozen=True):
    """A key that signs orders, messages and tickets."""

    kid: Thumbprint
    key: PublicJwk
