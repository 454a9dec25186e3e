"""Orders without I/O: what makes one acceptable, and which message may follow which.

The rules of the exchange, as one table (``_NEXT``):

* the agent speaks first (``consented``), and then the two take turns;
* an order that certifies nothing (``Operation.certifies``) goes from ``proceed`` to the receipt (``_SHORT``);
* while a card is worked on, after ``proceed`` or ``certificates``, ``management_question``, ``management_proof``,
  ``card_proved``, ``card_secrets`` and ``changing`` are said as often as it takes, and change nothing; so are, after
  ``proceed`` alone, ``identity_question`` and ``identity_answer``;
* ``progress`` changes nothing; the portal may say ``undo`` until it has said ``finished``;
* the agent may say ``undone`` by itself until it has sent its receipt; from then on the portal decides;
* messages that crossed an ``undo`` or ``undone`` on their way are taken and have no effect.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from protocol import codec, jose
from protocol.errors import DecodeError, InlayError
from protocol.messages import (
    AGENT_MESSAGES,
    MESSAGE_TYPES,
    PORTAL_MESSAGES,
    Envelope,
    KeySet,
    Message,
    Order,
    PublicJwk,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

CLOCK_WARNING: Final = 60
CLOCK_REFUSAL: Final = 24 * 3600
"""Seconds of drift between this machine's clock and the portal's (SPEC.md, "Time")."""


class Expected(NamedTuple):
    """What an agent knows before an order comes, and holds it against.

    Attributes:
        portal: the portal's id in the trust store.
        origin: the portal's origin in the trust store; orders are begun there and nowhere else.
        page_origin: origin of the page that handed the code over by loopback; None for a link or typed code.
        device: thumbprint of the device key.
        nonce: the claim's nonce.
        portal_time: the portal's time now, as learnt in the authenticated hello.
    """

    portal: str
    origin: str
    page_origin: str | None
    device: str
    nonce: str
    portal_time: float


def verify_order(token: str, key_set: KeySet, expected: Expected) -> Order:
    """Verify an order that answers a claim.

    Whether its ``jti`` was seen before is the journal's to say, not this function's.

    Raises:
        InlayError: one ``order_…`` code for each thing that can be wrong.
    """
    keys = [item.key for item in key_set.order_keys]
    try:
        order = jose.verify(token, jose.ORDER, keys, Order)
    except jose.TokenError as error:
        raise error.as_error(
            signature="order_signature_invalid",
            algorithm="order_algorithm_refused",
            payload="order_malformed",
        ) from None
    _check_order(order, expected)
    return order


def _check_order(order: Order, expected: Expected) -> None:
    if order.aud != "inlay":
        raise InlayError("order_wrong_audience")
    if order.iss != expected.portal:
        raise InlayError("order_wrong_issuer")
    if order.cnf.jkt != expected.device:
        raise InlayError("order_wrong_device")
    if order.nonce != expected.nonce:
        raise InlayError("order_wrong_nonce")
    if order.origin != expected.origin or expected.page_origin not in (None, order.origin):
        raise InlayError("order_wrong_origin")
    if not order.iat - CLOCK_WARNING <= expected.portal_time < order.exp:
        raise InlayError("order_expired")
    if (order.completion is not None) != (order.binding == "completion"):
        raise DecodeError("order_malformed", "$.completion")


class Side(enum.Enum):
    """Who speaks."""

    AGENT = "agent"
    PORTAL = "portal"


class Stage(enum.StrEnum):
    """How far an order has come. ``FINISHED`` and ``UNDONE`` are final."""

    BEGUN = "begun"
    CONSENTED = "consented"
    PROCEEDING = "proceeding"
    REQUESTED = "requested"
    CERTIFIED = "certified"
    RECEIPTED = "receipted"
    FINISHED = "finished"
    UNDOING = "undoing"
    UNDONE = "undone"


_BEFORE_RECEIPT: Final = (
    Stage.BEGUN,
    Stage.CONSENTED,
    Stage.PROCEEDING,
    Stage.REQUESTED,
    Stage.CERTIFIED,
)
_ON_CARD: Final = (Stage.PROCEEDING, Stage.CERTIFIED)
_CARD_SAYS: Final = ("management_question", "card_proved", "changing")
_AGENT, _PORTAL = Side.AGENT, Side.PORTAL
_NEXT: Final[dict[tuple[Stage, Side, str], Stage]] = {
    (Stage.BEGUN, _AGENT, "consented"): Stage.CONSENTED,
    (Stage.CONSENTED, _PORTAL, "proceed"): Stage.PROCEEDING,
    (Stage.PROCEEDING, _AGENT, "requests"): Stage.REQUESTED,
    (Stage.REQUESTED, _PORTAL, "certificates"): Stage.CERTIFIED,
    (Stage.CERTIFIED, _AGENT, "receipt"): Stage.RECEIPTED,
    (Stage.RECEIPTED, _PORTAL, "finished"): Stage.FINISHED,
    **{(stage, _AGENT, name): stage for stage in _ON_CARD for name in _CARD_SAYS},
    **{(stage, _PORTAL, name): stage for stage in _ON_CARD for name in ("management_proof", "card_secrets")},
    (Stage.PROCEEDING, _AGENT, "identity_question"): Stage.PROCEEDING,
    (Stage.PROCEEDING, _PORTAL, "identity_answer"): Stage.PROCEEDING,
    **{(stage, _AGENT, "progress"): stage for stage in (*_BEFORE_RECEIPT, Stage.RECEIPTED)},
    **{(stage, _AGENT, "undone"): Stage.UNDONE for stage in (*_BEFORE_RECEIPT, Stage.UNDOING)},
    **{(stage, _PORTAL, "undo"): Stage.UNDOING for stage in (*_BEFORE_RECEIPT, Stage.RECEIPTED)},
    **{(Stage.UNDOING, _AGENT, name): Stage.UNDOING for name in AGENT_MESSAGES if name != "undone"},
    **{(Stage.UNDONE, _PORTAL, name): Stage.UNDONE for name in PORTAL_MESSAGES if name != "finished"},
}
_SHORT: Final[dict[tuple[Stage, Side, str], Stage]] = {
    **{
        step: after
        for step, after in _NEXT.items()
        if step[1:] != (_AGENT, "requests") or step[0] is Stage.UNDOING
    },
    (Stage.PROCEEDING, _AGENT, "receipt"): Stage.RECEIPTED,
}
FINAL_STAGES: Final = frozenset({Stage.FINISHED, Stage.UNDONE})


def next_stage(stage: Stage, side: Side, message_type: str, *, certifies: bool = True) -> Stage:
    """The stage after a message.

    Args:
        stage: how far the order has come.
        side: who speaks.
        message_type: what.
        certifies: whether the order goes by way of requests and certificates.

    Raises:
        InlayError: ``message_unexpected``: the message has no place at this stage.
    """
    try:
        return (_NEXT if certifies else _SHORT)[stage, side, message_type]
    except KeyError:
        raise InlayError("message_unexpected") from None


class Position(NamedTuple):
    """Where one side of an exchange stands: what its journal keeps.

    Attributes:
        stage: how far the order has come.
        sent: highest ``seq`` sent.
        received: highest ``seq`` taken from the other side.
    """

    stage: Stage = Stage.BEGUN
    sent: int = 0
    received: int = 0


class Exchange:
    """One side of an order's exchange of signed messages.

    Nothing is sent or stored here. A caller stores what ``send`` and ``receive`` return together with the new
    ``position`` before it acts on it, and builds the exchange anew from the stored position after a restart.

    Attributes:
        position: where this side stands.
    """

    def __init__(
        self,
        jti: str,
        side: Side,
        key: jose.SigningKey,
        peer_keys: Sequence[PublicJwk],
        position: Position | None = None,
        *,
        certifies: bool = True,
    ) -> None:
        self._jti = jti
        self._certifies = certifies
        self._side = side
        self._key = key
        self._peer_keys = list(peer_keys)
        self._incoming = PORTAL_MESSAGES if side is Side.AGENT else AGENT_MESSAGES
        self.position = position or Position()

    def send(self, body: Message) -> str:
        """Number and sign a message.

        Returns:
            Compact JWS of the envelope.

        Raises:
            InlayError: ``message_unexpected``: it has no place at this stage.
        """
        name = MESSAGE_TYPES[type(body)]
        stage = next_stage(self.position.stage, self._side, name, certifies=self._certifies)
        seq = self.position.sent + 1
        envelope = Envelope(jti=self._jti, seq=seq, type=name, body=msgspec.Raw(codec.encode(body)))
        token = self._key.sign(jose.MESSAGE, envelope)
        self.position = self.position._replace(stage=stage, sent=seq)
        return token

    def receive(self, token: str) -> Message:
        """Verify a message of the other side and take it.

        Returns:
            The message's body.

        Raises:
            InlayError: ``message_signature_invalid``, ``message_wrong_sequence``, ``message_unexpected`` or
                ``params_invalid`` with the path. Each ends the order.
        """
        envelope = self._open(token)
        if envelope.jti != self._jti:
            raise InlayError("message_signature_invalid")
        if envelope.seq != self.position.received + 1:
            raise InlayError("message_wrong_sequence")
        type_ = self._incoming.get(envelope.type)
        if type_ is None:
            raise InlayError("message_unexpected")
        other = Side.PORTAL if self._side is Side.AGENT else Side.AGENT
        stage = next_stage(self.position.stage, other, envelope.type, certifies=self._certifies)
        body = codec.decode(bytes(envelope.body), type_, malformed="params_invalid")
        self.position = self.position._replace(stage=stage, received=envelope.seq)
        return body

    def _open(self, token: str) -> Envelope:
        try:
            return jose.verify(token, jose.MESSAGE, self._peer_keys, Envelope)
        except jose.TokenError as error:
            raise error.as_error(
                signature="message_signature_invalid",
                algorithm="message_signature_invalid",
                payload="params_invalid",
            ) from None
