"""The PUK of a card by the driver *pkcs11*, which is the PIN of its security officer, gives way to another one.

The PUK is proved by itself, once (C_Login); only then the portal is told that the card is changed, and C_SetPIN is sent
once (PKCS#11 v3.1, section 5.6.5). Where its answer never came the card has the old PUK, of which it is known that it
was right, or the new one: only the person may have a try spent to find out.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from agent.handlers.card_in_reader import STEPS
from agent.handlers.new_puk import STEP
from agent.handlers.order_steps import ask, secret
from agent.handlers.token_pin_entry import known_puk, puk_warning
from agent.handlers.typed_puk import GIVEN_UP, Refused
from agent.ports import WindowFailed
from agent.token_presence import UNKNOWN
from protocol.errors import InlayError
from protocol.messages import Changing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.order_ports import OrderContext
    from agent.pcsc.pkcs11_tokens import Token
    from agent.returning_token import ReturningToken
    from protocol.messages import Proceed

_CANT: Final = frozenset({"card_feature_missing", "card_pin_form"})
"""What cards say whose PUK can't be changed to this one."""
_TORN: Final = (
    "The card went away while its PUK was changed: nobody knows whether it has the old one or the new one. "
    "Go on to find out: that may cost one of the PUK's tries; the card doesn't tell how many there are."
)


class TokenPuk:
    """One token's new PUK."""

    def __init__(
        self,
        context: OrderContext,
        card: ReturningToken,
        agreed: Proceed,
        announce: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Prepare.

        Args:
            context: the order.
            card: its card.
            agreed: brings the new PUK, and the portal's old one.
            announce: tells portal and person that the card is changed; called before each time that it is. None: as
                *change PUK* does.
        """
        self._context, self._card, self._agreed = context, card, agreed
        self._announce = announce or self._say_changing
        self._said = False

    async def change(self, *, typed: bool) -> bool:
        """Change it; False where the card can't take the new one, and keeps its own.

        Args:
            typed: the person has the PUK; else ``proceed`` brings it.

        Raises:
            InlayError: ``pkcs11_puk_wrong``, ``card_puk_blocked``, ``card_puk_unknown``, ``pkcs11_no_officer``,
                ``pkcs11_not_initialised``, ``pkcs11_unanswered``; why the order ended.
            DecodeError: ``params_invalid``.
        """
        new = secret(self._context, self._agreed.new_puk, "new_puk")
        try:
            if self._agreed.puk_unsure and await self._has(new):
                return True
            old = await self._typed() if typed else await self._brought()
            try:
                return await self._until_it_is_changed(old, new)
            finally:
                old[:] = bytes(len(old))
        finally:
            new[:] = bytes(len(new))

    async def _brought(self) -> bytearray:
        """The portal's, proved."""
        self._see_that_it_can_be_tried(await self._context.guard(self._card.look()))
        old = secret(self._context, self._agreed.puk, "puk")
        try:
            await self._context.guard(self._card.prove_puk(old))
        except BaseException:
            old[:] = bytes(len(old))
            raise
        return old

    async def _typed(self) -> bytearray:
        """What the person types until it is right; the caller wipes it."""
        wrong: InlayError | None = None
        refused = Refused()
        while True:
            token = await self._context.guard(self._card.look())
            self._see_that_it_can_be_tried(token)
            said = (None if wrong is None else wrong.happened, puk_warning(token))
            warning = " ".join(text for text in said if text) or None
            prompt = dataclasses.replace(
                self._context.prompt, known=known_puk(token), warning=warning, confirm_label="Go on"
            )
            try:
                answer = await ask(self._context, prompt)
            except InlayError as error:
                if wrong is None or error.code not in GIVEN_UP:
                    raise
                raise wrong from None
            try:
                if answer.known is None:
                    raise WindowFailed(None)
                if not refused.has(answer.known):
                    await self._context.guard(self._card.prove_puk(answer.known))
                    return bytearray(answer.known)
            except InlayError as error:
                if error.code != "pkcs11_puk_wrong" or answer.known is None:
                    raise
                wrong = error
                refused.add(answer.known)
            finally:
                answer.wipe()

    async def has_new(self) -> bool:
        """Whether the card has the new one from an earlier order; where that isn't known, the person says go on.

        Raises:
            InlayError: ``card_puk_unknown``, ``card_puk_blocked``; ``user_cancelled`` …
        """
        if not self._agreed.puk_unsure or not (await self._context.guard(self._card.look())).initialised:
            return False
        new = secret(self._context, self._agreed.new_puk, "new_puk")
        try:
            return await self._has(new)
        finally:
            new[:] = bytes(len(new))

    async def replace(self, old: bytearray) -> bool:
        """Change one that is right and on the card; False where the card can't take the new one.

        Args:
            old: it; the caller's, who finds the new one there where that has taken its place.
        """
        new = secret(self._context, self._agreed.new_puk, "new_puk")
        try:
            if not await self._until_it_is_changed(old, new):
                return False
            old[:] = new
        finally:
            new[:] = bytes(len(new))
        return True

    async def _say_changing(self) -> None:
        context = self._context
        if not self._said:
            await context.send(Changing())
            await context.guard(context.delivered())
            self._said = True
        await context.window.show_progress("puk", "Changing the PUK", 2, STEPS, can_cancel=False)

    async def _until_it_is_changed(self, old: bytearray, new: bytearray) -> bool:
        context = self._context
        while True:
            await self._announce()
            try:
                await context.guard(context.record(STEP, self._card.change_puk(old, new)))
            except InlayError as error:
                if error.code in _CANT:
                    return False
                if error.code not in UNKNOWN:
                    raise
                if await self._has(new):
                    await context.record(STEP, _nothing())
                    return True
                await context.guard(self._card.prove_puk(old))  # it was right before
            else:
                return True

    async def _has(self, new: bytearray) -> bool:
        """Whether the card has the new PUK: the person has a try spent to find out.

        Raises:
            InlayError: ``card_puk_unknown``: some were wrong already; ``user_cancelled``.
        """
        token = await self._context.guard(self._card.look())
        self._see_that_it_can_be_tried(token)
        if token.puk != "enough":
            raise InlayError("card_puk_unknown")
        asked = dataclasses.replace(
            self._context.prompt, known=None, pin_policy=None, warning=_TORN, confirm_label="Go on"
        )
        (await ask(self._context, asked)).wipe()
        try:
            await self._context.guard(self._card.prove_puk(new))
        except InlayError as error:
            if error.code != "pkcs11_puk_wrong":
                raise
            return False
        return True

    def _see_that_it_can_be_tried(self, token: Token) -> None:
        if not token.initialised:
            raise InlayError("pkcs11_not_initialised")
        if token.puk == "blocked":
            raise InlayError("card_puk_blocked")


async def _nothing() -> None:
    return
