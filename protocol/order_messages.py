"""The order, and the messages by which it is carried out."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from protocol.operations import Operation
from protocol.words import (
    Binding,
    CardGuid,
    CipherBlock,
    CompactJwe,
    Der,
    ErrorData,
    Generation,
    Identifier,
    KeyCount,
    ManagementAlgorithm,
    Message,
    Nonce,
    Number,
    Origin,
    PortalId,
    PublicJwk,
    Seconds,
    Sequence,
    Sha256,
    ShortText,
    SlotName,
    SmallBytes,
    Statement,
    Step,
    StorageLevel,
    Thumbprint,
    TokenSerial,
    UnixTime,
    whole,
)

# --- order ------------------------------------------------------------------------------------------------


class Account(Message, frozen=True):
    """Whom the order is for; shown at consent."""

    id: Identifier
    name: ShortText
    user_id: ShortText


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
    parameters: Operation
    completion: Nonce | None = None
    """the completion secret, with binding ``completion``"""


# --- messages of an order ---------------------------------------------------------------------------------


class Envelope(Message, frozen=True):
    """Payload of every message's JWS (``typ`` inlay-message+jwt). ``seq`` counts each direction from 1."""

    jti: Identifier
    seq: Sequence
    type: Annotated[str, Meta(max_length=40, pattern=whole(r"[a-z_]+"))]
    body: msgspec.Raw


class Consented(Message, frozen=True):
    """Agent: the person agreed. Nothing was made yet."""

    encryption_key: PublicJwk
    """ephemeral key of this order; the portal's secrets come as JWE to it"""
    storage: StorageLevel | None = None
    """how a new virtual card's keys will be kept"""
    number: Number | None = None
    """the number shown, with binding ``number``"""


class Proceed(Message, frozen=True):
    """Portal: consent and binding are complete, go on."""

    puk: CompactJwe | None = None
    """the card's PUK, to the order's ephemeral key, where the order sets a new PIN by it and nobody types it"""
    management_keys: Annotated[list[CompactJwe], Meta(max_length=4)] = msgspec.field(default_factory=list)
    """keys for ``ManagementKey.replace``, one of each algorithm, in its order, to the order's ephemeral key"""
    pin: CompactJwe | None = None
    """the PIN that the card gets, to the order's ephemeral key, where the portal gives it (``PinEntry``)"""
    new_puk: CompactJwe | None = None
    """the PUK that the card gets (``EncodeCard.new_puk``, ``ChangePuk``), to the order's ephemeral key"""
    puk_unsure: bool = False
    """an earlier order may have given the card ``new_puk`` already; else it has ``puk``"""


class ManagementQuestion(Message, frozen=True):
    """Agent: the card wants its management key proved, within three seconds.

    An answer that comes later is worth nothing to the card, which asks anew then.

    SP 800-73pt2-5, section 3.2.4: external authentication asks with a ``challenge``, mutual with a ``witness``.
    """

    number: Annotated[int, Meta(ge=1, le=100)]
    """counts the order's questions; the answer carries it"""
    algorithm: ManagementAlgorithm
    refused: Annotated[int, Meta(ge=0, le=8)] = 0
    """how many of the keys that the portal has for this card the card has refused in this order"""
    challenge: CipherBlock | None = None
    """exactly one of the two: a block to encrypt"""
    witness: CipherBlock | None = None
    """or a block to decrypt"""


class ManagementProof(Message, frozen=True):
    """Portal: what proves the management key to the card."""

    number: Annotated[int, Meta(ge=1, le=100)]
    """of the question"""
    response: CipherBlock
    """the encrypted challenge, or the decrypted witness"""
    challenge: CipherBlock | None = None
    """mutual: a challenge to the card"""
    expected_sha256: Sha256 | None = None
    """mutual: digest of that challenge encrypted, which the card has to answer and nobody else can"""


class CardProved(Message, frozen=True):
    """Agent: what the card has answered to the challenge of a mutual authentication: it has the key, too."""

    number: Annotated[int, Meta(ge=1, le=100)]
    """of the question"""
    response: CipherBlock
    """the challenge, encrypted by the card"""


class CardSecrets(Message, frozen=True):
    """Portal: what waited until the card had proved itself, once in an order (`ManagementKey.proves`)."""

    puk: CompactJwe | None = None
    """as of ``proceed``, and so are the others"""
    management_keys: Annotated[list[CompactJwe], Meta(max_length=4)] = msgspec.field(default_factory=list)
    new_puk: CompactJwe | None = None
    puk_unsure: bool = False


class IdentityQuestion(Message, frozen=True):
    """Agent: this card is there to be encoded, nothing was done to it yet.

    With `CardIdentity.printed` the person has said that it is the one, and the portal undoes the order where another
    card of its own has this GUID. With `CardIdentity.unnamed` the answer tells which of its cards it is (``label``).
    """

    number: Annotated[int, Meta(ge=1, le=100)]
    """counts the order's questions, those of the management key with it; the answer carries it"""
    guid: CardGuid | None = None
    """GUID of the CHUID that the card has now; None, with ``unnamed`` alone: it has none"""
    serial: Annotated[str, Meta(pattern=whole(r"[0-9]{1,20}"))] | None = None
    """what it says when it is asked for its serial number, decimal; with ``unnamed``"""


class IdentityAnswer(Message, frozen=True):
    """Portal: no other card of this portal is meant by that: the card may be encoded, unless ``label`` says more."""

    number: Annotated[int, Meta(ge=1, le=100)]
    """of the question"""
    label: ShortText | None = None
    """name of the card of this portal that it is: it stays as it is, and another one is waited for"""


class Changing(Message, frozen=True):
    """Agent: from here on the physical card is changed in a way that nothing undoes; waits until this is taken."""


class CertificateRequest(Message, frozen=True):
    """A key made on the card, and the proof that the card holds it."""

    slot: SlotName
    csr: Der | None = None
    """PKCS#10; for every key that can sign"""
    public_key: Der | None = None
    """SubjectPublicKeyInfo; for EC key management keys, which can't sign: proved with the certificate"""
    attestation: Statement | None = None
    """the card's own certificate of a key that it made, where the order asks for it"""


class Requests(Message, frozen=True):
    """Agent: the card's identity and its keys."""

    guid: CardGuid
    """GUID of the CHUID"""
    serial: Annotated[str, Meta(pattern=whole(r"[0-9]{1,20}"))] | None
    """decimal; None: the physical card doesn't tell one"""
    requests: Annotated[list[CertificateRequest], Meta(max_length=24)]
    puk: CompactJwe | None = None
    """the card's PUK, to ``escrow_key``"""
    attestation_issuer: Statement | None = None
    """of the key that signed the attestations: what the card has as object 5FFF01"""
    token: TokenSerial | None = None
    """serial number of a card by the driver ``pkcs11``"""
    declined: Annotated[list[SlotName], Meta(max_length=24)] = msgspec.field(default_factory=list)
    """optional keys that the card can't take: they aren't to be sent"""


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


class CardSignature(Message, frozen=True):
    """What a card's key has signed for *authenticate* or *sign*, and whose key it is."""

    certificate: Der
    """of the key; the portal has to check it against what it knows of the card"""
    algorithm: Literal["ES256", "RS256"]
    """RFC 7518, section 3.1"""
    signature: SmallBytes
    """as RFC 7518 has it: ES256 is r and s, 32 bytes each"""


class CertificateOnCard(Message, frozen=True):
    """A certificate that was read."""

    slot: SlotName
    certificate: Der


class CardReading(Message, frozen=True):
    """What a card in a reader tells of itself without a PIN, for *read card*."""

    kind: ShortText
    """what the agent's card map calls it"""
    guid: CardGuid | None = None
    """None: it has no CHUID"""
    serial: Annotated[str, Meta(pattern=whole(r"[0-9]{1,20}"))] | None = None
    """decimal; None: it doesn't tell"""
    version: Annotated[str, Meta(pattern=whole(r"[0-9]{1,3}(\.[0-9]{1,3}){2}"))] | None = None
    """of the card's application"""
    features: Annotated[
        list[Literal["attestation", "importing", "metadata", "moving", "new_management_key"]],
        Meta(max_length=5),
    ] = msgspec.field(default_factory=list)
    """what it turned out to have beyond the standard"""
    pin_tries: Annotated[int, Meta(ge=0, le=255)] | None = None
    """tries left of the PIN; None: it doesn't tell"""
    puk_tries: Annotated[int, Meta(ge=0, le=255)] | None = None
    certificates: Annotated[list[CertificateOnCard], Meta(max_length=24)] = msgspec.field(
        default_factory=list
    )
    omitted: Annotated[int, Meta(ge=0, le=24)] = 0
    """certificates that can't be read, stand under no key reference, or for which there was no room in the message"""
    token: TokenSerial | None = None
    """serial number of a card by the driver ``pkcs11``"""


class Receipt(Message, frozen=True):
    """Agent: everything was done, and what was certified is written, read back and proved."""

    guid: CardGuid
    """of the card; of one without a CHUID that was read 32 zeros"""
    generation: Generation = 0
    """of a virtual card"""
    storage: StorageLevel | None = None
    """of a virtual card"""
    proofs: Annotated[list[SlotProof], Meta(max_length=24)] = msgspec.field(default_factory=list)
    """one for each certificate of the order"""
    attested: bool = False
    signature: CardSignature | None = None
    """of *authenticate* and *sign*"""
    management_replaced: ManagementAlgorithm | None = None
    """the card has the management key of this algorithm that ``proceed`` brought"""
    puk_replaced: bool = False
    """the card has the PUK that ``proceed`` brought"""
    reading: CardReading | None = None
    """of *read card*"""


class Progress(Message, frozen=True):
    """Agent: the order got to this step."""

    step: Step
    key: KeyCount | None = None
    """at the step ``keys``"""


class Finished(Message, frozen=True):
    """Portal: the order has won and its objects are in their new states. A new card is attached only now."""


class Undo(Message, frozen=True):
    """Portal: the order is undone; the agent removes what it made."""

    error: ErrorData


class Undone(Message, frozen=True):
    """Agent: what was made is removed; asked to, or because of ``error``."""

    error: ErrorData
    unchanged: bool = False
    """after ``changing``: the card refused the first certificate and is as it was; where the order keeps all keys"""
