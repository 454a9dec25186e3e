"""What the portal in a test's own process says to a device's messages, whichever connection they come by."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES

from protocol import jose
from protocol.messages import (
    CardProved,
    CardSecrets,
    Changing,
    Consented,
    EncodeCard,
    ErrorData,
    Finished,
    IdentityAnswer,
    IdentityQuestion,
    ManagementProof,
    ManagementQuestion,
    Message,
    Operation,
    OrderState,
    Proceed,
    PublicJwk,
    Receipt,
    Requests,
    Undo,
    Undone,
)
from protocol.orders import Stage
from tests.support.fake_issuing import FakeCA
from tests.support.fake_order import Faults, OrderAtPortal


class FakeAnswers:
    """The portal's side of orders.

    Attributes:
        faults: what goes wrong.
        number_given: the number is taken as typed at once.
        puk: what sets a new PIN; None: nothing does.
        management_keys: what the portal has for a physical card, in the order in which it tries them.
        new_key: management key that a card gets; None: none. So are ``new_puk`` and ``pin``.
        other_cards: GUIDs of other cards of the portal's.
        puk_unsure: an earlier order may have given the card ``new_puk``.
        answers: what is done with the answer to a question, by the question; None: it is sent at once.
    """

    def __init__(self) -> None:
        self.ca = FakeCA()
        self.faults = Faults()
        self.puk: bytes | None = None
        self.management_keys: list[bytes] = []
        self.new_key: bytes | None = None
        self.new_puk: bytes | None = None
        self.puk_unsure = False
        self.pin: bytes | None = None
        self.answers: Callable[[ManagementQuestion, ManagementProof], ManagementProof | None] = (
            lambda _question, proof: proof
        )
        self.other_cards: set[str] = set()
        self.number_given = True

    def _proceed(self, operation: Operation, key: PublicJwk) -> Proceed:
        """What the order needs, for the device alone."""
        secrets = (self.puk, self.new_key, self.pin, self.new_puk)
        puk, new_key, pin, new_puk = (None if each is None else jose.encrypt(each, key) for each in secrets)
        management = operation.management if isinstance(operation, EncodeCard) else None
        keys = [] if management is None or new_key is None else [new_key] * len(management.replace)
        return Proceed(puk=puk, management_keys=keys, pin=pin, new_puk=new_puk, puk_unsure=self.puk_unsure)

    def _first(self, operation: Operation, key: PublicJwk) -> Proceed:
        """What it is told at once: no PUK and no key that waits until the card has proved itself."""
        proceed, management = self._proceed(operation, key), getattr(operation, "management", None)
        waits = management is not None and management.proves
        return Proceed(pin=proceed.pin) if waits else proceed

    def _proved(self, at: OrderAtPortal, body: CardProved) -> CardSecrets | None:
        """Note it; what waited for it is sent the first time."""
        at.proved.append(body)
        management = getattr(at.order.parameters, "management", None)
        if management is None or not management.proves or len(at.proved) > 1:
            return None
        assert at.consented is not None
        agreed = self._proceed(at.order.parameters, at.consented.encryption_key)
        return CardSecrets(
            puk=agreed.puk,
            management_keys=agreed.management_keys,
            new_puk=agreed.new_puk,
            puk_unsure=agreed.puk_unsure,
        )

    def _identified(self, at: OrderAtPortal, question: IdentityQuestion) -> Message:
        at.identities.append(question.guid)
        if question.guid not in self.other_cards:
            return IdentityAnswer(number=question.number)
        at.state = OrderState.UNDOING
        return Undo(error=ErrorData(error="card_of_other_object", fields={"guid": question.guid}))

    def _nothing_valid(self, at: OrderAtPortal) -> None:
        """From here on nothing of an order becomes valid, unless it has won."""
        if at.order.parameters.certifies and at.state is not OrderState.FINISHED:
            self.ca.ledger.undone(at.order, changing=at.changing > 0 and not at.unchanged)

    def _changing(self, at: OrderAtPortal) -> None:
        at.changing += 1
        if at.state is not OrderState.RUNNING:  # half done from now on, too
            self._nothing_valid(at)

    def _react(self, at: OrderAtPortal, body: Message) -> Message | None:
        """What the portal says to a message."""
        match body:
            case Consented():
                at.consented = body
                return self._first(at.order.parameters, body.encryption_key) if self.number_given else None
            case ManagementQuestion():
                at.questions.append(body)
                if body.refused >= len(self.management_keys):
                    self._nothing_valid(at)
                    at.state = OrderState.UNDOING
                    return Undo(error=ErrorData(error="card_management_wrong"))
                proof = management_answer(self.management_keys[body.refused], body)
                return self.answers(body, proof)
            case CardProved() | IdentityQuestion():
                return self._proved(at, body) if isinstance(body, CardProved) else self._identified(at, body)
            case Changing():
                self._changing(at)
            case Requests():
                at.requests = body
                if at.exchange.position.stage is Stage.UNDOING:
                    return None
                certificates = self.ca.answer(
                    at.order, body, at.consented, running=at.state is OrderState.RUNNING
                )
                return (
                    certificates if self.faults.ca is None else self.ca.altered(certificates, self.faults.ca)
                )
            case Receipt():
                at.receipt = body
                if at.exchange.position.stage is Stage.UNDOING:
                    return None
                if at.order.parameters.certifies:
                    self.ca.check(at.order, body)
                    self.ca.ledger.finished(at.order)
                at.state = OrderState.FINISHED
                return Finished()
            case Undone():
                at.undone, at.unchanged = body.error, body.unchanged
                self._nothing_valid(at)
                at.state = OrderState.UNDONE
            case _:
                pass
        return None


def management_answer(key: bytes, question: ManagementQuestion) -> ManagementProof:
    """What a management key answers to a question (SP 800-73pt2-5, appendix A.1); cut to the algorithm's length."""
    sizes = {"3DES": (TripleDES, 24), "AES-128": (AES, 16), "AES-192": (AES, 24), "AES-256": (AES, 32)}
    kind, size = sizes[question.algorithm.value]
    cipher = Cipher(kind((key + key)[:size]), modes.ECB())  # noqa: S305 - one block, as the standard has it
    encryptor = cipher.encryptor()
    if question.challenge is not None:
        return ManagementProof(number=question.number, response=encryptor.update(question.challenge))
    assert question.witness is not None
    challenge = os.urandom(len(question.witness))
    return ManagementProof(
        number=question.number,
        response=cipher.decryptor().update(question.witness),
        challenge=challenge,
        expected_sha256=hashlib.sha256(encryptor.update(challenge)).digest(),
    )
