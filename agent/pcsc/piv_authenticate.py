"""The management key: proved to the card by whoever holds it, which is the portal and not this machine.

SP 800-73pt2-5, section 3.2.4 and appendix A.1. The card asks; the question goes to the key's holder; its answer goes
to the card. Here are the two halves of each way, and nothing waits between them.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

from agent.pcsc import tlv
from agent.pcsc.apdu import Answer, Card, Command, malformed
from agent.pcsc.piv_names import MANAGEMENT, ManagementAlgorithm
from agent.pcsc.status import (
    BLOCKED,
    CONDITIONS,
    FAILED,
    NO_FUNCTION,
    NOT_AUTHORISED,
    PARAMETERS,
    WRONG_DATA,
    WRONG_LENGTH,
    refusal,
    require_ok,
)
from protocol.errors import InlayError

_TEMPLATE, _WITNESS, _CHALLENGE, _RESPONSE = 0x7C, 0x80, 0x81, 0x82
_WRONG: Final = frozenset({NOT_AUTHORISED, BLOCKED, CONDITIONS, WRONG_DATA, FAILED})
_UNREAD: Final = frozenset({WRONG_DATA, WRONG_LENGTH}) | PARAMETERS
"""What cards say of a template that they can't read; some say it of a wrong witness, too."""
_NO_TOUCH, _TOUCH = 0xFF, 0xFE


@dataclass(frozen=True, slots=True)
class Question:
    """What the card asks.

    Attributes:
        algorithm: of the management key.
        mutual: the card proves that it has the key, too.
        data: external: the challenge, to be encrypted. Mutual: the encrypted witness, to be decrypted.
    """

    algorithm: ManagementAlgorithm
    mutual: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class Proof:
    """What the key's holder answers; each part is one block.

    Attributes:
        response: external: the encrypted challenge. Mutual: the decrypted witness.
        challenge: mutual: a challenge to the card.
        expected_sha256: mutual: digest of that challenge encrypted, which the card has to answer.
    """

    response: bytes
    challenge: bytes = b""
    expected_sha256: bytes = b""


def ask(card: Card, algorithm: ManagementAlgorithm, *, mutual: bool = False) -> Question:
    """Have the card ask. The answer has to be the next command that it gets.

    Raises:
        InlayError: ``card_algorithm_missing`` when it doesn't know the algorithm, or not for this key;
            ``card_refused``, ``card_answer_malformed``.
    """
    tag = _WITNESS if mutual else _CHALLENGE
    command = _command(algorithm, bytes((tag, 0)))
    answer = card.send(command)
    if answer.status in PARAMETERS | {NO_FUNCTION}:
        raise InlayError("card_algorithm_missing", algorithm=algorithm.name.replace("_", "-"))
    data = _value(command, require_ok(command, answer), tag)
    if len(data) != algorithm.block_bytes:
        raise malformed(command)
    return Question(algorithm, mutual, data)


def prove(card: Card, question: Question, proof: Proof) -> bytes:
    """Give the card the answer to its question.

    Returns:
        What the card has answered to a mutual authentication's challenge: nobody without the key knew it before.

    Raises:
        InlayError: ``card_management_wrong`` when the card, or what it proves of itself, is not of this key: nothing
            has been changed; ``card_refused``: nothing has been changed either, and of a mutual authentication it
            isn't known whether the key is wrong or the card can't read the template; ``card_answer_malformed``.
    """
    if question.mutual:
        # no empty 82 behind them: there are cards that refuse a template with more than these two
        content = tlv.encode(_WITNESS, proof.response) + tlv.encode(_CHALLENGE, proof.challenge)
    else:
        content = tlv.encode(_RESPONSE, proof.response)
    command = _command(question.algorithm, content)
    answer = card.send(command)
    if question.mutual and answer.status in _UNREAD:
        raise refusal(command, answer.status)
    data = _accepted(command, answer)
    if not question.mutual:
        return b""
    response = _value(command, data, _RESPONSE)
    if not hmac.compare_digest(hashlib.sha256(response).digest(), proof.expected_sha256):
        raise InlayError("card_management_wrong")
    return response


def set_key(card: Card, algorithm: ManagementAlgorithm, key: bytes, *, touch: bool = False) -> None:
    """SET MANAGEMENT KEY (Yubico), after an authentication with the old one.

    Args:
        card: a card that was proved its present key.
        algorithm: the new key's.
        key: `algorithm.key_bytes` bytes.
        touch: using it needs a touch.

    Raises:
        InlayError: ``card_management_needed``, ``card_algorithm_missing``, ``card_feature_missing``, ``card_refused``.
    """
    if len(key) != algorithm.key_bytes:
        raise ValueError(len(key))
    data = bytes((algorithm, MANAGEMENT, len(key))) + key
    command = Command(0xFF, 0xFF, _TOUCH if touch else _NO_TOUCH, data, answer=False)
    answer = card.send(command)
    if answer.status == NOT_AUTHORISED:
        raise InlayError("card_management_needed", command=command.name)
    if answer.status in PARAMETERS | {WRONG_DATA, WRONG_LENGTH}:
        raise InlayError("card_algorithm_missing", algorithm=algorithm.name.replace("_", "-"))
    require_ok(command, answer)


def _command(algorithm: ManagementAlgorithm, content: bytes) -> Command:
    return Command(0x87, algorithm, MANAGEMENT, tlv.encode(_TEMPLATE, content))


def _accepted(command: Command, answer: Answer) -> bytes:
    if answer.ok:
        return answer.data
    if answer.status in _WRONG:
        raise InlayError("card_management_wrong")
    raise refusal(command, answer.status)


def _value(command: Command, data: bytes, tag: int) -> bytes:
    try:
        value = tlv.find(tlv.only(data, _TEMPLATE), tag)
    except tlv.TlvError:
        value = None
    if value is None:
        raise malformed(command)
    return value
