"""What the portal says to an order's questions about its card, in whatever order it comes."""

from __future__ import annotations

from typing import Any, cast

import pytest

from agent.management_proof import PortalKey
from protocol.errors import InlayError
from protocol.messages import (
    CardSecrets,
    Finished,
    IdentityAnswer,
    IdentityQuestion,
    ManagementKey,
    ManagementProof,
    Message,
)


class Context:
    """An order whose portal says this, one after the other."""

    def __init__(self, *said: Message) -> None:
        self.said, self.asked = list(said), 0

    async def send(self, body: IdentityQuestion) -> None:
        self.asked = body.number

    async def receive(self, type_: type[Message]) -> Message:
        assert isinstance(self.said[0], type_)
        return self.said.pop(0)


def key(context: Context, *, proves: bool = False) -> PortalKey:
    return PortalKey(cast(Any, context), ManagementKey(proves=proves))


async def test_an_answer_to_a_card_that_is_gone_comes_before_what_is_asked_of_the_next_one() -> None:
    """The card that had asked was exchanged while the portal was late."""
    context = Context(
        IdentityAnswer(1), ManagementProof(1, bytes(8)), ManagementProof(1, bytes(8)), IdentityAnswer(2, "B")
    )
    asking = key(context)
    assert await asking.may_be("00" * 16) is None
    assert await asking.may_be("11" * 16) == "B"
    assert (context.asked, context.said) == (2, [])


async def test_what_waited_for_the_cards_proof_is_kept_when_it_comes_while_something_else_is_awaited() -> (
    None
):
    context = Context(CardSecrets(puk_unsure=True), IdentityAnswer(1))
    asking = key(context, proves=True)
    assert await asking.may_be(None) is None
    assert asking.secrets == CardSecrets(puk_unsure=True)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (IdentityAnswer(2), "params_invalid"),
        (ManagementProof(2, bytes(8)), "params_invalid"),
        (ManagementProof(1, bytes(8)), "params_invalid"),
        (CardSecrets(), "message_unexpected"),
        (Finished(), "message_unexpected"),
    ],
)
async def test_an_answer_to_what_nobody_has_asked_ends_the_order(said: Message, code: str) -> None:
    with pytest.raises(InlayError) as caught:
        await key(Context(said)).may_be(None)
    assert caught.value.code == code
