"""Every message of the protocol as a strict struct: the one place where the wire is described.

JSON Schema, TypeScript types and the reference in SPEC.md come from this file. Bytes are base64 (with padding)
in JSON; times are whole seconds since 1970 in the portal's time; durations are whole seconds.

Groups: common words, frames, channel (agent and portal), loopback (page and agent), order, messages of an
order, events for the page.
"""

from __future__ import annotations

import enum
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

PROTOCOL_VERSIONS: Final = (1,)


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of all structs: immutable, unknown fields refused, defaults left out on the wire."""


def _whole(pattern: str) -> str:
    """Anchor a pattern at both ends: in Python a bare ``$`` would let a final newline pass."""
    return f"^{pattern}$(?!\\n)"


# --- common words -----------------------------------------------------------------------------------------

ShortText = Annotated[str, Meta(min_length=1, max_length=200)]
PortalId = Annotated[
    str, Meta(min_length=1, max_length=259, pattern=_whole(r"[a-z0-9.-]+(:[1-9][0-9]{0,4})?"))
]
Origin = Annotated[str, Meta(max_length=268, pattern=_whole(r"https?://[a-z0-9.\[\]:-]+"))]
Identifier = Annotated[str, Meta(min_length=1, max_length=64, pattern=_whole(r"[A-Za-z0-9_.:-]+"))]
Code = Annotated[str, Meta(pattern=_whole(r"([A-Za-z0-9_-]{22}|[0-9A-HJKMNP-TV-Z]{10})"))]
Nonce = Annotated[str, Meta(pattern=_whole(r"[A-Za-z0-9_-]{43}"))]
"""256 random bits, base64url without padding."""
Thumbprint = Annotated[str, Meta(pattern=_whole(r"[A-Za-z0-9_-]{43}"))]
"""RFC 7638, SHA-256."""
CompactJws = Annotated[
    str, Meta(max_length=60_000, pattern=_whole(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+"))
]
CompactJwe = Annotated[
    str, Meta(max_length=20_000, pattern=_whole(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]*){3}\.[A-Za-z0-9_-]+"))
]
Seconds = Annotated[int, Meta(ge=1, le=86_400)]
UnixTime = Annotated[int, Meta(ge=0, le=32_503_680_000)]
Sequence = Annotated[int, Meta(ge=1, le=1_000_000)]
Number = Annotated[str, Meta(pattern=_whole(r"[0-9]{3}"))]
Sha256 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Der = Annotated[bytes, Meta(min_length=4, max_length=12_000)]
SmallBytes = Annotated[bytes, Meta(min_length=4, max_length=1_400)]
SlotName = Annotated[str, Meta(pattern=_whole(r"(9[ACDE]|8[2-9A-F]|9[0-5])"))]
"""PIV key reference in hexadecimal: 9A, 9C, 9D, 9E, 82…95 (SP 800-73pt1-5, table 4b)."""
CardGuid = Annotated[str, Meta(pattern=_whole(r"[0-9a-f]{32}"))]
"""GUID of a card's CHUID (SP 800-73pt1-5, table 9)."""
Generation = Annotated[int, Meta(ge=0, le=9_007_199_254_740_991)]
"""How often a card's file was saved: it only goes up, unless an old copy of the file was put back."""
ErrorFields = dict[str, str | int]


class PublicJwk(Message, frozen=True):
    """A P-256 public key (RFC 7517)."""

    kty: Literal["EC"]
    crv: Literal["P-256"]
    x: Annotated[str, Meta(pattern=_whole(r"[A-Za-z0-9_-]{43}"))]
    y: Annotated[str, Meta(pattern=_whole(r"[A-Za-z0-9_-]{43}"))]


class Algorithm(enum.StrEnum):
    """Algorithms of keys on a card."""

    RSA_2048 = "RSA-2048"
    P_256 = "P-256"


class Purpose(enum.StrEnum):
    """What a certificate is for."""

    AUTHENTICATION = "authentication"
    SIGNATURE = "signature"
    ENCRYPTION = "encryption"


class KeySource(enum.StrEnum):
    """Where a key comes from."""

    GENERATE = "generate"
    """made on the card, never leaves it"""
    IMPORT = "import"
    """made by the portal's archive, delivered as JWE"""


class Presence(enum.StrEnum):
    """What a PIN policy says about a class of characters."""

    ALLOWED = "ALLOWED"
    DISALLOWED = "DISALLOWED"
    REQUIRED = "REQUIRED"


class StorageLevel(enum.StrEnum):
    """How a virtual card's keys are kept at rest; claimed unless attested."""

    TPM = "tpm"
    KEYSTORE = "keystore"
    FILE = "file"


class Binding(enum.StrEnum):
    """How the browser session that began the order is shown to be the one at this machine."""

    NUMBER = "number"
    """the agent shows a three-digit number after consent; it is typed into the page"""
    COMPLETION = "completion"
    """the agent hands the completion secret to the page over the loopback socket"""
    NONE = "none"
    """the device is known to the account and the operation does not ask for more"""


class Transport(enum.StrEnum):
    """How the code came to the agent."""

    LINK = "link"
    LOOPBACK = "loopback"
    TYPED = "typed"


class PinPolicy(Message, frozen=True):
    """Rules for a new PIN: printable ASCII, lengths in bytes.

    The effective maximum is the smaller of ``max_length`` and 8, unless ``agent_only``.
    """

    min_length: Annotated[int, Meta(ge=4, le=15)] = 6
    max_length: Annotated[int, Meta(ge=4, le=15)] = 8
    upper: Presence = Presence.ALLOWED
    lower: Presence = Presence.ALLOWED
    digits: Presence = Presence.ALLOWED
    special: Presence = Presence.ALLOWED
    agent_only: bool = False


# --- frames: JSON-RPC 2.0 ---------------------------------------------------------------------------------

FrameId = Annotated[int, Meta(ge=1, le=2**31)]


class Frame(Message, frozen=True):
    """Any JSON-RPC 2.0 frame. Which fields go together is checked by ``protocol.session``."""

    jsonrpc: Literal["2.0"]
    id: FrameId | UnsetType = UNSET
    method: Annotated[str, Meta(max_length=40, pattern=_whole(r"[a-z_]+"))] | UnsetType = UNSET
    params: msgspec.Raw | UnsetType = UNSET
    result: msgspec.Raw | UnsetType = UNSET
    error: ErrorObject | UnsetType = UNSET


class ErrorObject(Message, frozen=True):
    """A JSON-RPC error: the number and text of ``protocol.errors``, the code and its fields in ``data``."""

    code: int
    message: Annotated[str, Meta(max_length=400)]
    data: ErrorData | None = None


class ErrorData(Message, frozen=True):
    """What the number stands for."""

    error: Identifier
    fields: ErrorFields = {}


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
    cards: Annotated[list[CardGeneration], Meta(max_length=32)] = []
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
    channel_path: Annotated[str, Meta(max_length=100, pattern=_whole(r"/[a-z0-9/._-]*"))]
    """path of the channel below the portal's own origin"""


class OrderKey(Message, frozen=True):
    """A key that signs orders, messages and tickets."""

    kid: Thumbprint
    key: PublicJwk


# --- loopback: the page calls the agent -------------------------------------------------------------------


class LoopbackHelloResult(Message, frozen=True):
    """The agent's answer to ``hello``: versions, and nothing about the machine."""

    version: int
    versions: list[int]


class OpenParams(Message, frozen=True):
    """``open``: hands over a code. The agent claims it at the portal that its trust store names."""

    portal: PortalId
    code: Code


class OpenResult(Message, frozen=True):
    """The code was taken; what becomes of it comes as ``progress``, ``completion`` and ``ended``."""

    accepted: bool


class ProgressParams(Message, frozen=True):
    """Notification to the page: the order got to this step."""

    step: Step


class CompletionParams(Message, frozen=True):
    """Notification to the page after consent: what the page hands to its portal to bind its session."""

    completion: Nonce


class EndedParams(Message, frozen=True):
    """Notification to the page: the order ended."""

    outcome: Literal["finished", "undone", "refused"]
    error: ErrorData | None = None


class TicketParams(Message, frozen=True):
    """``list_readers``: reading needs a session ticket that the portal signed for this page's origin."""

    ticket: CompactJws


class Ticket(Message, frozen=True):
    """Signed by an order key (``typ`` inlay-ticket+jwt)."""

    iss: PortalId
    aud: Literal["inlay"]
    origin: Origin
    level: Literal["read"]
    iat: UnixTime
    exp: UnixTime


class Reader(Message, frozen=True):
    """A reader as PC/SC names it."""

    name: ShortText
    card_present: bool
    atr: Annotated[str, Meta(max_length=66, pattern=_whole(r"([0-9A-F]{2})*"))] = ""


class ListReadersResult(Message, frozen=True):
    """All readers of the machine."""

    readers: Annotated[list[Reader], Meta(max_length=64)]


# --- order ------------------------------------------------------------------------------------------------


class Account(Message, frozen=True):
    """Whom the order is for; shown at consent."""

    id: Identifier
    name: ShortText
    user_id: ShortText


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


class Confirmation(Message, frozen=True):
    """RFC 7800: the one device that may carry the order out."""

    jkt: Thumbprint


class Order(Message, frozen=True):
    """Signed by an order key (``typ`` inlay-order+jwt): the only thing that lets an agent change a card."""

    iss: PortalId
    aud: Literal["inlay"]
    jti: Identifier
    iat: UnixTime
    exp: UnixTime
    """the order must have begun by then"""
    cnf: Confirmation
    nonce: Nonce
    """the claim's nonce"""
    origin: Origin
    """origin of the page that began it; shown at consent"""
    account: Account
    binding: Binding
    resume_within: Seconds
    """after this long without the other side both undo"""
    parameters: CreateVirtualCard
    completion: Nonce | None = None
    """the completion secret, with binding ``completion``"""


# --- messages of an order ---------------------------------------------------------------------------------


class Step(enum.StrEnum):
    """Steps of an order that people see."""

    CONSENT = "consent"
    BINDING = "binding"
    KEYS = "keys"
    CERTIFICATES = "certificates"
    WRITING = "writing"
    PROVING = "proving"
    FINISHED = "finished"


class Envelope(Message, frozen=True):
    """Payload of every message's JWS (``typ`` inlay-message+jwt). ``seq`` counts each direction from 1."""

    jti: Identifier
    seq: Sequence
    type: Annotated[str, Meta(max_length=40, pattern=_whole(r"[a-z_]+"))]
    body: msgspec.Raw


class Consented(Message, frozen=True):
    """Agent: the person agreed. Nothing was made yet."""

    encryption_key: PublicJwk
    """ephemeral key of this order; the portal's secrets come as JWE to it"""
    storage: StorageLevel
    number: Number | None = None
    """the number shown, with binding ``number``"""


class Proceed(Message, frozen=True):
    """Portal: consent and binding are complete, go on."""


class CertificateRequest(Message, frozen=True):
    """A key made on the card, and the proof that the card holds it."""

    slot: SlotName
    csr: Der | None = None
    """PKCS#10; for every key that can sign"""
    public_key: Der | None = None
    """SubjectPublicKeyInfo; for EC key management keys, which can't sign: proved with the certificate"""


class Requests(Message, frozen=True):
    """Agent: the card's identity and its keys."""

    guid: CardGuid
    """GUID of the CHUID"""
    serial: Annotated[str, Meta(pattern=_whole(r"[0-9]{1,10}"))]
    requests: Annotated[list[CertificateRequest], Meta(max_length=24)]
    puk: CompactJwe | None = None
    """the card's PUK, to ``escrow_key``"""


class Challenge(Message, frozen=True):
    """How a key that doesn't sign proves itself: exactly one of the two."""

    ciphertext: SmallBytes | None = None
    """RSA: 32 random bytes encrypted to the certificate, RSAES-OAEP (SHA-256)"""
    ephemeral: SmallBytes | None = None
    """EC: an uncompressed point to agree with"""


class IssuedCertificate(Message, frozen=True):
    """A certificate to write."""

    slot: SlotName
    certificate: Der
    key: CompactJwe | None = None
    """PKCS#8 of an imported key"""
    challenge: Challenge | None = None
    """for encryption keys"""


class Certificates(Message, frozen=True):
    """Portal: the certificates, persisted as Issued before they left."""

    certificates: Annotated[list[IssuedCertificate], Meta(min_length=1, max_length=24)]


class SlotProof(Message, frozen=True):
    """The card's key in this slot belongs to this certificate: exactly one of the two."""

    slot: SlotName
    certificate_sha256: Sha256
    signature: SmallBytes | None = None
    """over the digest of ``protocol.proofs.signature_input``: PKCS#1 v1.5 (SHA-256) or ECDSA (DER)"""
    mac: Sha256 | None = None
    """``protocol.proofs.mac`` under what the challenge gave"""


class Receipt(Message, frozen=True):
    """Agent: everything was written, read back and proved."""

    guid: CardGuid
    generation: Generation
    storage: StorageLevel
    proofs: Annotated[list[SlotProof], Meta(min_length=1, max_length=24)]
    attested: bool = False


class Progress(Message, frozen=True):
    """Agent: the order got to this step."""

    step: Step


class Finished(Message, frozen=True):
    """Portal: certificates valid, card active. The agent attaches the card only now."""


class Undo(Message, frozen=True):
    """Portal: the order is undone; the agent removes what it made."""

    error: ErrorData


class Undone(Message, frozen=True):
    """Agent: what was made is removed; asked to, or because of ``error``."""

    error: ErrorData


Body = Consented | Proceed | Requests | Certificates | Receipt | Progress | Finished | Undo | Undone
AGENT_MESSAGES: Final[dict[str, type[Message]]] = {
    "consented": Consented,
    "requests": Requests,
    "receipt": Receipt,
    "progress": Progress,
    "undone": Undone,
}
PORTAL_MESSAGES: Final[dict[str, type[Message]]] = {
    "proceed": Proceed,
    "certificates": Certificates,
    "finished": Finished,
    "undo": Undo,
}
MESSAGE_TYPES: Final[dict[type[Message], str]] = {
    type_: name for table in (AGENT_MESSAGES, PORTAL_MESSAGES) for name, type_ in table.items()
}


# --- events for the page ----------------------------------------------------------------------------------


class PageEvent(Message, frozen=True):
    """Server-sent event ``order`` of the portal: where the order stands, for the page that began it."""

    state: Literal["waiting", "running", "finished", "undone"]
    """``waiting``: nobody has claimed the code yet"""
    step: Step | None = None
    number_wanted: bool = False
    tries_left: Annotated[int, Meta(ge=0, le=3)] | None = None
    error: PageError | None = None


class PageError(Message, frozen=True):
    """An error as a page may show it."""

    error: Identifier
    happened: str
    why: str
    next_step: str


CHANNEL_METHODS: Final[dict[str, tuple[type[Message], type[Message]]]] = {
    "hello": (HelloParams, ChannelHelloResult),
    "authenticate": (AuthenticateParams, AuthenticateResult),
    "claim": (ClaimParams, ClaimResult),
    "resume": (ResumeParams, ResumeResult),
    "message": (MessageParams, Empty),
}
LOOPBACK_METHODS: Final[dict[str, tuple[type[Message], type[Message]]]] = {
    "hello": (HelloParams, LoopbackHelloResult),
    "open": (OpenParams, OpenResult),
    "list_readers": (TicketParams, ListReadersResult),
}
LOOPBACK_NOTIFICATIONS: Final[dict[str, type[Message]]] = {
    "progress": ProgressParams,
    "completion": CompletionParams,
    "ended": EndedParams,
}


def plain(value: Message) -> dict[str, Any]:
    """A message as a dict of plain JSON values."""
    result: dict[str, Any] = msgspec.to_builtins(value)
    return result
