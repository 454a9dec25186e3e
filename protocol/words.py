"""The words of the wire: what several messages are made of, each with its bounds.

Bytes are base64 (with padding) in JSON; times are whole seconds since 1970 in the portal's time; durations are whole
seconds.
"""

from __future__ import annotations

import enum
from typing import Annotated, Literal

import msgspec
from msgspec import Meta


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of all structs: immutable, unknown fields refused, defaults left out on the wire."""


def whole(pattern: str) -> str:
    """Anchor a pattern at both ends: in Python a bare ``$`` would let a final newline pass."""
    return f"^{pattern}$(?!\\n)"


ShortText = Annotated[str, Meta(min_length=1, max_length=200)]
PortalId = Annotated[
    str, Meta(min_length=1, max_length=259, pattern=whole(r"[a-z0-9.-]+(:[1-9][0-9]{0,4})?"))
]
Origin = Annotated[str, Meta(max_length=268, pattern=whole(r"https?://[a-z0-9.\[\]:-]+"))]
Identifier = Annotated[str, Meta(min_length=1, max_length=64, pattern=whole(r"[A-Za-z0-9_.:-]+"))]
Code = Annotated[str, Meta(pattern=whole(r"([A-Za-z0-9_-]{22}|[0-9A-HJKMNP-TV-Z]{10})"))]
Nonce = Annotated[str, Meta(pattern=whole(r"[A-Za-z0-9_-]{43}"))]
"""256 random bits, base64url without padding."""
Thumbprint = Annotated[str, Meta(pattern=whole(r"[A-Za-z0-9_-]{43}"))]
"""RFC 7638, SHA-256."""
CompactJws = Annotated[
    str, Meta(max_length=60_000, pattern=whole(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+"))
]
CompactJwe = Annotated[
    str, Meta(max_length=20_000, pattern=whole(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]*){3}\.[A-Za-z0-9_-]+"))
]
Seconds = Annotated[int, Meta(ge=1, le=86_400)]
UnixTime = Annotated[int, Meta(ge=0, le=32_503_680_000)]
Sequence = Annotated[int, Meta(ge=1, le=1_000_000)]
Number = Annotated[str, Meta(pattern=whole(r"[0-9]{3}"))]
Sha256 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Der = Annotated[bytes, Meta(min_length=4, max_length=12_000)]
Statement = Annotated[bytes, Meta(min_length=4, max_length=1_536)]
SmallBytes = Annotated[bytes, Meta(min_length=4, max_length=1_400)]
CipherBlock = Annotated[bytes, Meta(min_length=8, max_length=16)]
"""One block of the management key's cipher: 8 bytes with 3DES, 16 with AES."""
SlotName = Annotated[str, Meta(pattern=whole(r"(9[ACDE]|8[2-9A-F]|9[0-5])"))]
"""PIV key reference in hexadecimal: 9A, 9C, 9D, 9E, 82…95 (SP 800-73pt1-5, table 4b)."""
ObjectTag = Annotated[str, Meta(pattern=whole(r"5F[0-9A-F]{4}"))]
"""Tag of a PIV data object in hexadecimal (SP 800-73pt1-5, table 3)."""
CardGuid = Annotated[str, Meta(pattern=whole(r"[0-9a-f]{32}"))]
"""GUID of a card's CHUID (SP 800-73pt1-5, table 9); of a card by the driver ``pkcs11`` see `protocol.tokens`."""
TokenSerial = Annotated[str, Meta(pattern=whole(r"[!-~]([ -~]{0,14}[!-~])?"))]
"""Serial number of a PKCS#11 token: 1 to 16 printable characters (v3.1, section 3.2, CK_TOKEN_INFO)."""
Generation = Annotated[int, Meta(ge=0, le=9_007_199_254_740_991)]
"""How often a card's file was saved: it only goes up, unless an old copy of the file was put back."""
ErrorFields = dict[str, str | int]


class PublicJwk(Message, frozen=True):
    """A P-256 public key (RFC 7517)."""

    kty: Literal["EC"]
    crv: Literal["P-256"]
    x: Annotated[str, Meta(pattern=whole(r"[A-Za-z0-9_-]{43}"))]
    y: Annotated[str, Meta(pattern=whole(r"[A-Za-z0-9_-]{43}"))]


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
    IMPORT_IF_POSSIBLE = "import_if_possible"
    """with the driver ``piv``: ``import``, or ``generate`` on a card that takes no keys from elsewhere; a request for
    it says that it was made"""
    KEEP = "keep"
    """on the card already, and certified anew"""


class KeyPinPolicy(enum.StrEnum):
    """When the use of a key asks for the PIN (Yubico's; the standard fixes it for each place)."""

    NEVER = "never"
    ONCE = "once"
    """before the first use since the card was put in or reset"""
    ALWAYS = "always"
    """before each use"""


class KeyTouchPolicy(enum.StrEnum):
    """When the use of a key asks for a touch of the card (Yubico's; the standard knows none)."""

    NEVER = "never"
    ALWAYS = "always"
    CACHED = "cached"
    """one counts for the next 15 seconds"""


class KeyCount(Message, frozen=True):
    """Which of an order's keys a card makes now: of RSA keys each takes a card up to a minute."""

    number: Annotated[int, Meta(ge=1, le=24)]
    of: Annotated[int, Meta(ge=1, le=24)]
    """how many it makes"""


class Presence(enum.StrEnum):
    """What a PIN policy says about a class of characters."""

    ALLOWED = "ALLOWED"
    DISALLOWED = "DISALLOWED"
    REQUIRED = "REQUIRED"


class ManagementAlgorithm(enum.StrEnum):
    """Algorithms of a PIV card's management key (SP 800-78-5, table 6-2)."""

    TRIPLE_DES = "3DES"
    AES_128 = "AES-128"
    AES_192 = "AES-192"
    AES_256 = "AES-256"


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


class Step(enum.StrEnum):
    """Steps of an order that people see."""

    CONSENT = "consent"
    BINDING = "binding"
    CARD = "card"
    """a physical card is waited for, and its PIN"""
    KEYS = "keys"
    CERTIFICATES = "certificates"
    WRITING = "writing"
    PROVING = "proving"
    FINISHED = "finished"


class ErrorData(Message, frozen=True):
    """What the number stands for."""

    error: Identifier
    fields: ErrorFields = msgspec.field(default_factory=dict)
