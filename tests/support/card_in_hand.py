"""A card as an order has it in hand, without an agent and a portal around it: looked at, taken up, its key proved."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, TypeVar, cast

from agent.card_search import FoundCard
from agent.card_session import CardSession
from agent.management_proof import ALGORITHMS, PortalKey
from agent.pcsc import piv_cipher
from agent.pcsc.connection import CardConnection
from agent.pcsc.look import Evidence, look
from agent.pcsc.piv_authenticate import Question
from agent.pcsc.piv_select import FEATURES
from agent.returning_card import PhysicalCard, ReturningCard
from protocol.messages import CardProved, ManagementKey, ManagementProof, ManagementQuestion

T = TypeVar("T")


class _Readers:
    """One reader, in which the card is."""

    def __init__(self, connect: Callable[[], CardConnection], *, all_features: bool) -> None:
        self._connect, self._all = connect, all_features

    async def wait(self, *_which: object, features: frozenset[str], **_how: object) -> FoundCard:
        return FoundCard("Reader", self._looked_at(FEATURES if self._all else features), None, None)

    def _looked_at(self, features: frozenset[str]) -> Evidence:
        """As every search looks at a card that is there."""
        with self._connect() as card:
            return look(card, frozenset({bytes.fromhex("A000000308")}), features)

    def session(self, _reader: str) -> CardSession:
        return CardSession(self._connect)


class _Context:
    """An order that nothing happens to, at a portal that has the management key."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._asked: ManagementQuestion | None = None
        self.order = SimpleNamespace(resume_within=30)
        self.window = self

    async def show_progress(self, *_what: object, **_how: object) -> None:
        """Nobody looks."""

    async def guard(self, work: Awaitable[T]) -> T:
        return await work

    async def send(self, question: ManagementQuestion | CardProved) -> None:
        if isinstance(question, ManagementQuestion):
            self._asked = question

    async def receive(self, _type: object) -> ManagementProof:
        asked = self._asked
        assert asked is not None
        mutual = asked.witness is not None
        data = asked.witness or asked.challenge or b""
        proof = piv_cipher.answer(self._key, Question(ALGORITHMS[asked.algorithm], mutual, data))
        if not mutual:
            return ManagementProof(asked.number, proof.response)
        return ManagementProof(asked.number, proof.response, proof.challenge, proof.expected_sha256)


def card_in_hand(
    connect: Callable[[], CardConnection], guid: str, key: bytes, *, all_features: bool = False
) -> ReturningCard:
    """A card of an order, not yet looked at.

    Args:
        connect: connects to it.
        guid: of its CHUID.
        key: its management key.
        all_features: it is asked for all that it can do, as an order that reads it asks.
    """
    context = cast(Any, _Context(key))
    which = PhysicalCard("piv", guid, "Card")
    readers = cast(Any, _Readers(connect, all_features=all_features))
    return ReturningCard(context, readers, which, (1, 3), PortalKey(context, ManagementKey()))
