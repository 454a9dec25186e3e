"""A PUK of a PIV card that the person types, because the portal hasn't got it, and that gives way to another one.

Each try is typed, and what was wrong is said with the tries that are left; the same one again is not sent. No card is
held while the person types. Once the card has refused a PUK in this order it is known to have the PUK that it had: who
gives up then leaves nothing open.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import os
from typing import TYPE_CHECKING, Final

from agent.handlers.card_in_reader import STEPS
from agent.handlers.new_puk import replace
from agent.handlers.order_steps import ask, secret
from agent.handlers.pin_questions import known_puk
from agent.pcsc import piv_pin
from agent.pcsc.piv_names import PUK
from agent.ports import WindowFailed
from agent.tries import Tries
from protocol.errors import InlayError
from protocol.messages import Changing

if TYPE_CHECKING:
    from agent.order_ports import OrderContext
    from agent.ports import Consented
    from agent.returning_card import ReturningCard
    from protocol.messages import Proceed

GIVEN_UP: Final = frozenset({"timeout", "user_cancelled", "user_timeout", "window_failed"})
"""How it ends when nobody goes on; what ended it is then the PUK that was wrong."""


async def replace_typed_puk(context: OrderContext, card: ReturningCard, agreed: Proceed) -> bool:
    """Ask for the PUK until the card takes the new one by it; False where it can't take another one.

    Raises:
        InlayError: ``card_puk_blocked``, ``card_puk_unknown``; ``card_puk_wrong``: it was, and nobody went on;
            ``user_cancelled`` and why else the order ended.
        DecodeError: ``params_invalid``.
    """
    return await _Typing(context, card, agreed).carry_out()


class Refused:
    """The PUKs that a card has refused in an order; none of them is kept."""

    def __init__(self) -> None:
        self._salt = os.urandom(16)
        self._marks: set[bytes] = set()

    def add(self, puk: bytearray) -> None:
        """Remember one."""
        self._marks.add(self._mark(puk))

    def has(self, puk: bytearray) -> bool:
        """Whether this very one was refused."""
        return self._mark(puk) in self._marks

    def _mark(self, puk: bytearray) -> bytes:
        return hmac.digest(self._salt, bytes(puk), hashlib.sha256)


class _Typing:
    """One order's questions."""

    def __init__(self, context: OrderContext, card: ReturningCard, agreed: Proceed) -> None:
        self._context, self._card, self._agreed = context, card, agreed
        self._wrong: InlayError | None = None
        self._tries = Tries("PUK")
        self._refused = Refused()
        self._said = False

    async def carry_out(self) -> bool:
        """See `replace_typed_puk`."""
        new = secret(self._context, self._agreed.new_puk, "new_puk")
        try:
            while True:
                answer = await self._typed()
                try:
                    if answer.known is None:
                        raise WindowFailed(None)
                    if not self._refused.has(answer.known):
                        return await self._replaced(answer.known, new)
                except InlayError as error:
                    if error.code != "card_puk_wrong" or answer.known is None:
                        raise
                    self._wrong = error
                    self._tries.refused(error)
                    self._refused.add(answer.known)
                finally:
                    answer.wipe()
                    await self._card.let_go()
        finally:
            new[:] = bytes(len(new))

    async def _typed(self) -> Consented:
        """Ask, with what is known of the tries."""
        try:
            tries = await self._context.guard(self._card.run(piv_pin.tries_left, PUK))
            if tries == 0:
                raise InlayError("card_puk_blocked")  # noqa: TRY301 - as what is raised around it
            await self._card.let_go()
            return await ask(
                self._context,
                dataclasses.replace(
                    self._context.prompt,
                    known=known_puk(),
                    warning=self._tries.warning(tries, "" if self._wrong is None else self._wrong.happened),
                    confirm_label="Go on",
                ),
            )
        except InlayError as error:
            if self._wrong is None or error.code not in GIVEN_UP:
                raise
            raise self._wrong from None

    async def _replaced(self, old: bytearray, new: bytearray) -> bool:
        if not self._said:
            await self._context.send(Changing())
            await self._context.guard(self._context.delivered())
            self._said = True
        await self._context.window.show_progress("puk", "Changing the PUK", 2, STEPS, can_cancel=False)
        # with the first one that was wrong the card has said that it hasn't the new one either
        unsure = self._agreed.puk_unsure and self._wrong is None
        return await replace(self._context, self._card, old, new, unsure=unsure)
