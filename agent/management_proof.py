"""The portal as the holder of a card's management key: it answers the card's questions, and never sends the key.

SP 800-73pt2-5, section 3.2.4. Mutual authentication where the card has it, so that what comes next goes to a card of
this portal's and to no other; else external, unless the order wants the card to prove itself. What the card has
answered goes to the portal, which alone could have known it.

Before the first of them it says whether a card that the person has picked may be the order's: all count as questions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from agent.card_session import say_nothing
from agent.pcsc import piv_select
from agent.pcsc.piv_authenticate import Proof
from agent.pcsc.piv_names import ManagementAlgorithm as CardAlgorithm
from protocol.errors import DecodeError, InlayError
from protocol.messages import (
    CardProved,
    CardSecrets,
    ChangePin,
    IdentityAnswer,
    IdentityQuestion,
    ManagementAlgorithm,
    ManagementProof,
    ManagementQuestion,
    Message,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from agent.card_session import CardSession
    from agent.order_ports import OrderContext
    from agent.pcsc.piv_authenticate import Question
    from protocol.messages import ChangePuk, ManagementKey, Proceed, UnblockPin

ALGORITHMS: Final = {
    ManagementAlgorithm.TRIPLE_DES: CardAlgorithm.TDES,
    ManagementAlgorithm.AES_128: CardAlgorithm.AES_128,
    ManagementAlgorithm.AES_192: CardAlgorithm.AES_192,
    ManagementAlgorithm.AES_256: CardAlgorithm.AES_256,
}
Answered = TypeVar("Answered", ManagementProof, IdentityAnswer)
_WIRE: Final = {card: wire for wire, card in ALGORITHMS.items()}
_MOST_KEYS: Final = 8
_NO_MUTUAL: Final = frozenset({"card_refused", "card_answer_malformed", "card_algorithm_missing"})
_OTHER_ALGORITHM: Final = _NO_MUTUAL | {"card_management_wrong", "card_not_proved"}
"""What a card may say of an algorithm that isn't its key's."""


class PortalKey:
    """Proves the management key of an order's card, as often as the card was away in between."""

    def __init__(self, context: OrderContext, key: ManagementKey) -> None:
        """Nothing is asked yet.

        Args:
            context: the order, by which the portal is asked.
            key: what the order says of the key.
        """
        self._context = context
        self._key = key
        self._number = 0
        self._refused = 0
        self._mutual = True
        self._believed = key.algorithm is not None
        self._completed = False
        self.secrets: CardSecrets | None = None
        """what the portal has given once the card had proved itself, where that has to come first"""

    @property
    def proves(self) -> bool:
        """Whether the card has to prove itself before it is told anything."""
        return self._key.proves

    def completed(self, agreed: Proceed) -> Proceed:
        """What ``proceed`` brought, with what waited until the card had proved itself; that is added once."""
        given = self.secrets
        if given is None or self._completed:
            return agreed
        self._completed = True  # what has become of the card since then isn't said anew
        return msgspec.structs.replace(
            agreed,
            puk=given.puk if given.puk is not None else agreed.puk,
            management_keys=given.management_keys,
            new_puk=given.new_puk,
            puk_unsure=given.puk_unsure,
        )

    @property
    def asks_for_algorithm(self) -> bool:
        """Whether the card is asked for its key's algorithm before: not where the portal knows it, until that fails."""
        return not self._believed

    async def prove(
        self,
        session: CardSession,
        known: Sequence[CardAlgorithm] | None = None,
        late: Callable[[], Awaitable[None]] = say_nothing,
    ) -> None:
        """Have the portal prove the key to a selected card: each one that it has for the card, until one is right.

        Args:
            session: the card's.
            known: algorithms of its key, as `piv_select.management_algorithms` has found them in this session; None:
                the card is asked.
            late: called when the portal is late, before it is waited for.

        Raises:
            InlayError: ``card_management_wrong``: none is; ``card_not_proved``: the card has to prove itself, and
                can't; ``card_management_slow``, ``card_algorithm_missing``, ``pcsc_…``; why the order ended.
        """
        algorithm = await self._algorithm(session, known)
        while True:
            try:
                await self._prove(session, algorithm, late)
            except InlayError as error:
                if error.code in _OTHER_ALGORITHM and (other := await self._other(session, algorithm)):
                    algorithm = other
                    continue
                if error.code != "card_management_wrong" or self._refused == _MOST_KEYS:
                    raise
                self._refused += 1  # the portal says when there is no other
            else:
                return

    async def may_be(self, guid: str | None, serial: str | None = None) -> str | None:
        """Have the portal say whether a card is another one of its own.

        Args:
            guid: of its CHUID, 32 hexadecimal digits; None: it has none.
            serial: what it says to GET SERIAL, decimal, where the order leaves it to the portal which card it is.

        Returns:
            The name of the portal's card that it is; None: it is none.

        Raises:
            InlayError: ``card_of_other_object``: the person has picked another card of the portal's; why the order
                ended.
        """
        self._number += 1
        await self._context.send(IdentityQuestion(number=self._number, guid=guid, serial=serial))
        return (await self._answered(IdentityAnswer, self._number)).label

    async def _algorithm(self, session: CardSession, known: Sequence[CardAlgorithm] | None) -> CardAlgorithm:
        wanted = None if self._key.algorithm is None else ALGORITHMS[self._key.algorithm]
        if wanted is not None and self._believed:
            return wanted
        if known is None:
            known = await session.run(piv_select.management_algorithms)
        if wanted is not None and (wanted in known or not known):
            return wanted
        if not known:
            raise InlayError("card_feature_missing", command="GENERAL AUTHENTICATE")
        return known[0]

    async def _other(self, session: CardSession, tried: CardAlgorithm) -> CardAlgorithm | None:
        """The algorithm that the card says its key has, where the portal's word was believed and it is another one."""
        if not self._believed:
            return None
        self._believed = False
        found = await self._algorithm(session, None)
        if found is tried:
            return None
        self._mutual = True
        return found

    async def _prove(
        self, session: CardSession, algorithm: CardAlgorithm, late: Callable[[], Awaitable[None]]
    ) -> None:
        if self._mutual:
            before = self._number
            try:
                response = await session.authenticate(algorithm, self._answer, mutual=True, late=late)
            except InlayError as error:
                if error.code not in _NO_MUTUAL:
                    raise
                if self.proves:
                    raise _unproved(error, asked=self._number > before) from None
                self._mutual = False
            else:
                await self._tell(session, response)
                return
        await session.authenticate(algorithm, self._answer, late=late)

    async def _tell(self, session: CardSession, response: bytes) -> None:
        """Pass on to the portal what the card has proved itself by."""
        await self._context.send(CardProved(number=self._number, response=response))
        if self.proves and self.secrets is None:
            await session.awaiting(self._take_secrets())

    async def _take_secrets(self) -> None:
        """Keep what comes, also where the card went in that moment: it comes once."""
        self.secrets = await self._context.receive(CardSecrets)

    async def _answered(self, type_: type[Answered], asked: int) -> Answered:
        """The portal's answer to a question.

        The card may have gone while something else was awaited, which comes before it then: an answer to an earlier
        question is worth nothing any more, and what waited until the card had proved itself is kept.
        """
        while True:
            got = await self._context.receive(Message)
            if isinstance(got, CardSecrets) and self.proves and self.secrets is None:
                self.secrets = got
            elif not isinstance(got, ManagementProof | IdentityAnswer):
                raise InlayError("message_unexpected")
            elif got.number == asked and isinstance(got, type_):
                return got
            elif got.number >= asked:
                raise DecodeError("params_invalid", "$.number")

    async def _answer(self, question: Question) -> Proof:
        """Ask the portal."""
        self._number += 1
        asked = self._number
        await self._context.send(
            ManagementQuestion(
                number=asked,
                algorithm=_WIRE[question.algorithm],
                refused=self._refused,
                challenge=None if question.mutual else question.data,
                witness=question.data if question.mutual else None,
            )
        )
        proof = await self._answered(ManagementProof, asked)
        if question.mutual:
            return Proof(
                proof.response,
                _block(proof.challenge, "challenge"),
                _block(proof.expected_sha256, "expected_sha256"),
            )
        return Proof(proof.response)


def key_of(context: OrderContext, ordered: ChangePin | ChangePuk | UnblockPin) -> PortalKey | None:
    """What a card whose PUK the portal gives has to prove itself by before; None where it can't, or nobody asks."""
    management = None if isinstance(ordered, ChangePin) else ordered.management
    return None if management is None or not management.proves else PortalKey(context, management)


def _unproved(error: InlayError, *, asked: bool) -> InlayError:
    """What it comes to where a card has to prove itself: it doesn't know the way, or refuses this key's answer."""
    wrong = asked and error.code == "card_refused"
    return InlayError("card_management_wrong" if wrong else "card_not_proved")


def _block(value: bytes | None, field: str) -> bytes:
    if value is None:
        raise DecodeError("params_invalid", f"$.{field}")
    return value
