"""Every message of the protocol as a strict struct: the one place where who needs any of them finds it.

JSON Schema, TypeScript types and the reference in docs/reference come from what stands here, in this order: operations,
the pages' messages, words, the channel's messages, the order and its messages, from a module each. The tables are here.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

# isort: off
# what is passed on, a block each
from protocol.operations import (
    ReadCard as ReadCard,
)
from protocol.operations import (
    Authenticate as Authenticate,
    BlockCard as BlockCard,
    CardIdentity as CardIdentity,
    CardStep as CardStep,
    ChangePin as ChangePin,
    ChangePuk as ChangePuk,
    CreateVirtualCard as CreateVirtualCard,
    DataObject as DataObject,
    DeleteVirtualCard as DeleteVirtualCard,
    EncodeCard as EncodeCard,
    KeyOrder as KeyOrder,
    ManagementKey as ManagementKey,
    Operation as Operation,
    PinEntry as PinEntry,
    Sign as Sign,
    UnblockPin as UnblockPin,
    VerifyPin as VerifyPin,
)
from protocol.page_messages import (
    CheckComputerResult as CheckComputerResult,
    CompletionParams as CompletionParams,
    ComputerFinding as ComputerFinding,
    EndedParams as EndedParams,
    ListReadersResult as ListReadersResult,
    LoopbackHelloResult as LoopbackHelloResult,
    OpenParams as OpenParams,
    OpenResult as OpenResult,
    PageError as PageError,
    PageEvent as PageEvent,
    ProgressParams as ProgressParams,
    Reader as Reader,
    ReadersParams as ReadersParams,
    Ticket as Ticket,
    TicketParams as TicketParams,
)
from protocol.words import (
    Algorithm as Algorithm,
    Binding as Binding,
    CardGuid as CardGuid,
    CipherBlock as CipherBlock,
    Code as Code,
    CompactJwe as CompactJwe,
    CompactJws as CompactJws,
    Der as Der,
    ErrorData as ErrorData,
    ErrorFields as ErrorFields,
    Generation as Generation,
    Identifier as Identifier,
    KeyCount as KeyCount,
    KeyPinPolicy as KeyPinPolicy,
    KeySource as KeySource,
    KeyTouchPolicy as KeyTouchPolicy,
    ManagementAlgorithm as ManagementAlgorithm,
    Message as Message,
    Nonce as Nonce,
    Number as Number,
    ObjectTag as ObjectTag,
    Origin as Origin,
    PinPolicy as PinPolicy,
    PortalId as PortalId,
    Presence as Presence,
    PublicJwk as PublicJwk,
    Purpose as Purpose,
    Seconds as Seconds,
    Sequence as Sequence,
    Sha256 as Sha256,
    ShortText as ShortText,
    SlotName as SlotName,
    SmallBytes as SmallBytes,
    Statement as Statement,
    Step as Step,
    StorageLevel as StorageLevel,
    Thumbprint as Thumbprint,
    TokenSerial as TokenSerial,
    Transport as Transport,
    UnixTime as UnixTime,
)

from protocol.channel_messages import (
    FrameId as FrameId,
    Frame as Frame,
    ErrorObject as ErrorObject,
    Empty as Empty,
    HelloParams as HelloParams,
    ChannelHelloResult as ChannelHelloResult,
    AuthenticateParams as AuthenticateParams,
    AuthenticateResult as AuthenticateResult,
    ChannelProof as ChannelProof,
    ClaimParams as ClaimParams,
    DeviceInfo as DeviceInfo,
    CardGeneration as CardGeneration,
    Claim as Claim,
    ClaimResult as ClaimResult,
    ResumeParams as ResumeParams,
    Resume as Resume,
    OrderState as OrderState,
    ResumeResult as ResumeResult,
    MessageParams as MessageParams,
    KeySet as KeySet,
    OrderKey as OrderKey,
)
from protocol.order_messages import (
    Account as Account,
    Confirmation as Confirmation,
    Order as Order,
    Envelope as Envelope,
    Consented as Consented,
    Proceed as Proceed,
    ManagementQuestion as ManagementQuestion,
    ManagementProof as ManagementProof,
    CardProved as CardProved,
    CardSecrets as CardSecrets,
    IdentityQuestion as IdentityQuestion,
    IdentityAnswer as IdentityAnswer,
    Changing as Changing,
    CertificateRequest as CertificateRequest,
    Requests as Requests,
    Challenge as Challenge,
    IssuedCertificate as IssuedCertificate,
    Certificates as Certificates,
    SlotProof as SlotProof,
    CardSignature as CardSignature,
    CertificateOnCard as CertificateOnCard,
    CardReading as CardReading,
    Receipt as Receipt,
    Progress as Progress,
    Finished as Finished,
    Undo as Undo,
    Undone as Undone,
)

# isort: on

PROTOCOL_VERSIONS: Final = (1,)


Body = (
    Consented
    | Proceed
    | ManagementQuestion
    | ManagementProof
    | CardProved
    | CardSecrets
    | IdentityQuestion
    | IdentityAnswer
    | Changing
    | Requests
    | Certificates
    | Receipt
    | Progress
    | Finished
    | Undo
    | Undone
)
AGENT_MESSAGES: Final[dict[str, type[Message]]] = {
    "consented": Consented,
    "management_question": ManagementQuestion,
    "card_proved": CardProved,
    "identity_question": IdentityQuestion,
    "changing": Changing,
    "requests": Requests,
    "receipt": Receipt,
    "progress": Progress,
    "undone": Undone,
}
PORTAL_MESSAGES: Final[dict[str, type[Message]]] = {
    "proceed": Proceed,
    "management_proof": ManagementProof,
    "card_secrets": CardSecrets,
    "identity_answer": IdentityAnswer,
    "certificates": Certificates,
    "finished": Finished,
    "undo": Undo,
}
MESSAGE_TYPES: Final[dict[type[Message], str]] = {
    type_: name for table in (AGENT_MESSAGES, PORTAL_MESSAGES) for name, type_ in table.items()
}


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
    "watch_readers": (TicketParams, ReadersParams),
    "check_computer": (TicketParams, CheckComputerResult),
}
LOOPBACK_NOTIFICATIONS: Final[dict[str, type[Message]]] = {
    "progress": ProgressParams,
    "completion": CompletionParams,
    "ended": EndedParams,
    "readers": ReadersParams,
}


def plain(value: Message) -> dict[str, Any]:
    """A message as a dict of plain JSON values."""
    result: dict[str, Any] = msgspec.to_builtins(value)
    return result
