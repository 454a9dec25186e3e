"""A card by the driver *pkcs11* in an order's hands: waited for, and taken up again when it was away.

It may be pulled out, and its module may crash, at any moment. What was interrupted is done again once the same card is
there and its module runs anew. A PIN goes to the card again only when it was right before; one whose answer never came
is nobody's to repeat but the person's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from agent import token_pad
from agent.token_search import HasModule, find_token
from agent.unbroken import for_a_person
from protocol.errors import InlayError
from protocol.messages import Step

if TYPE_CHECKING:
    from agent.order_ports import OrderContext
    from agent.ordered_card import CardReaders
    from agent.pcsc.pkcs11 import Driver
    from agent.pcsc.pkcs11_tokens import Token
    from agent.returning_card import PhysicalCard

T = TypeVar("T")

AWAY: Final = frozenset(
    {"pcsc_card_removed", "pkcs11_device", "pkcs11_module_crashed", "pkcs11_token_missing", "card_pin_needed"}
)
"""What a card comes back from: pulled out, its module's process gone and with it the session."""
UNKNOWN: Final = AWAY | {"pkcs11_module_hung"}
"""After these nobody knows whether the card has done what it was told."""
_IN_A_ROW: Final = 4
"""So often one and the same step may be interrupted before it is given up by its cause."""
_CLOSING: Final = (
    "Without it the card stays half done, and has to be finished by starting again from the page."
)


class TokenPresence:
    """The card's coming and going; close it in the end."""

    def __init__(
        self,
        context: OrderContext,
        readers: CardReaders,
        ordered: PhysicalCard,
        total: tuple[int, int],
    ) -> None:
        """Prepare; the card is waited for when it is needed.

        Args:
            context: the order, whose window says what to do.
            readers: where the card is.
            ordered: which card.
            total: steps done when the card is waited for, and of how many.
        """
        self._context, self._readers, self._ordered, self._total = context, readers, ordered, total
        self._driver: Driver | None = None
        self._token: Token | None = None
        self._pin: bytearray | None = None
        self._logs_in = False
        self._wrong = ""
        self._was_there = False
        self.changed = False
        """the point of no return was passed: who gives up waiting for the card leaves it half done"""
        self.may_be_blank = False
        """the order initialises it: it need not have been"""

    async def look(self) -> Token:
        """The token as it is now, waited for where it isn't there."""
        self._token = await self.run(self._seen)
        return self._token

    async def run(self, work: Callable[[Driver], Awaitable[T]]) -> T:
        """Do something with the card, logged in once a PIN was right; again after it was away.

        Raises:
            InlayError: what the work raises; any of `AWAY` when it was interrupted again and again.
        """
        for attempt in range(_IN_A_ROW):
            try:
                return await work(await self._present())
            except InlayError as error:
                if error.code == "pkcs11_pin_wrong" and self._typed_at_reader:
                    self._wrong = error.happened  # the person may try again; modules log out after it
                elif error.code not in AWAY:
                    raise
                if attempt == _IN_A_ROW - 1:
                    raise
                await self.let_go()
        raise AssertionError

    async def verify(self, pin: bytearray | None) -> None:
        """Log in with a PIN that a person types: one try, sent once. When it was right it is used from then on.

        Args:
            pin: the caller's, and not wiped before `close`; None: typed at the reader, whenever it is needed.

        Raises:
            InlayError: ``pkcs11_pin_wrong``, ``card_pin_blocked``; any of `UNKNOWN`: a try may have been spent.
        """
        await self.look()  # one that went while the person typed is waited for before
        driver = await self._present()
        try:
            await driver.verify(pin)
        except InlayError as error:
            if error.code in UNKNOWN:
                await self.let_go()
            raise
        self._pin, self._logs_in = pin, True

    async def let_go(self) -> None:
        """Log out, and end the module's process: what it still knows of a card that went is worth nothing."""
        driver, self._driver = self._driver, None
        if driver is not None:
            await driver.close()

    async def close(self) -> None:
        """The order's work on it is over."""
        self._pin, self._logs_in = None, False
        await self.let_go()

    async def change_pin(self, old: bytearray | None, new: bytearray | None) -> None:
        """Change the PIN: sent once; None, both of them, where it is typed at the reader.

        Raises:
            InlayError: ``pkcs11_pin_wrong``, ``card_pin_form``; any of `UNKNOWN`: it is the old one or the new one.
        """
        await self.look()
        driver = await self._present()
        try:
            await driver.change_pin(old, new)
        except InlayError as error:
            if error.code in UNKNOWN:
                await self.let_go()
            raise

    async def _still_there(self) -> Driver | None:
        """The module with the session open, if the card hasn't gone: one that has hung is started anew, once.

        Raises:
            InlayError: the module can't be asked any more.
        """
        driver, token = self._driver, self._token
        if driver is None or token is None or not driver.lost:
            return driver
        if self._typed_at_reader or not self._logs_in:
            return None
        await driver.open(await driver.find(token.serial))
        await driver.verify(self._pin)  # it was right before
        return driver

    # --- coming and going

    async def _present(self) -> Driver:
        """The module with the session open; waits for the card where there is none.

        Raises:
            InlayError: ``pkcs11_…``, ``timeout``: it never came.
        """
        if self._driver is not None and self._driver.lost:
            await self.let_go()  # before anything is said to a process that knows of no session
        if self._driver is None:
            driver, token = await self._found()
            try:
                await self._take(driver, token)
            except BaseException:
                await driver.close()
                raise
            self._driver, self._token, self._was_there = driver, token, True
        return self._driver

    async def _take(self, driver: Driver, token: Token) -> None:
        await self._show(
            f"The card “{self._ordered.label}” is there. Leave it in the reader.", can_cancel=not self.changed
        )
        if not token.initialised:
            if not self.may_be_blank:
                raise InlayError("pkcs11_not_initialised")
            return
        await driver.open(token)
        if not self._logs_in:
            return
        if not self._typed_at_reader:
            await driver.verify(self._pin)  # it was right before
        else:
            self._token, wrong, self._wrong = token, self._wrong, ""
            seen, verify = partial(self._seen, driver), partial(driver.verify, None)
            await token_pad.until_typed(self._ask, seen, verify, wrong)

    async def _found(self) -> tuple[Driver, Token]:
        """Wait for the card, no longer than the order lasts."""
        seconds = self._context.order.resume_within
        search = await self._readers.search(HasModule())
        waiting = find_token(
            search, self._ordered.guid, self._ordered.label, self._say_seen, back=self._was_there
        )
        try:
            async with asyncio.timeout(seconds):
                with for_a_person():
                    return await self._context.guard(waiting)
        except TimeoutError:
            raise InlayError("timeout", seconds=seconds) from None
        finally:
            await search.close()

    async def _say_seen(self, text: str) -> None:
        """Say what is seen while the card is waited for, which may be given up at any time."""
        await self._show(f"{text} {_CLOSING}" if self.changed else text, can_cancel=True)

    async def _show(self, text: str, *, can_cancel: bool) -> None:
        done, total = self._total
        await self._context.window.show_progress(Step.CARD.value, text, done, total, can_cancel=can_cancel)

    # --- helpers

    async def _seen(self, driver: Driver) -> Token:
        """The token as it is now.

        Raises:
            InlayError: ``pcsc_card_removed``.
        """
        for token in await driver.tokens():
            if self._token is not None and token.slot == self._token.slot:
                return token
        raise InlayError("pcsc_card_removed")

    @property
    def _typed_at_reader(self) -> bool:
        return self._logs_in and self._pin is None

    async def _ask(self, text: str) -> None:
        await self._show(text, can_cancel=not self.changed)
