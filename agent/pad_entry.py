"""The PIN of an order's card where nobody but the reader gets it: typed at the keys of the reader.

A PIN that this process doesn't have can't be sent again by it: the reader asks for it whenever the card wants it. The
card is held while the reader asks, for that is one command, and the reader ends it by itself when nobody types.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeVar

from agent.pcsc import piv_pad, piv_pin
from agent.tries import Tries
from protocol.errors import InlayError

if TYPE_CHECKING:
    from agent.pcsc.connection import CardConnection

T = TypeVar("T")

_ASKED_AGAIN: Final = frozenset({"card_pin_wrong", "pad_timeout", "pad_length"})
_IN_VAIN: Final = 4
"""So often in a row a reader waits for its keys until it is given up."""
_QUESTION: Final = "Type the PIN of the card at the keys of the reader."
_TYPED: Final = "The PIN is right. Leave the card in the reader."
_TORN: Final = "The card went away while its PIN was typed: a try may have been spent."


class PadEntry:
    """Asks for the PIN of one order's card at its reader."""

    def __init__(self, show: Callable[[str], Awaitable[None]]) -> None:
        """Prepare, in the agent's event loop.

        Args:
            show: shows in the window what there is to do.
        """
        self._show, self._left = show, Tries("PIN")
        self._loop = asyncio.get_running_loop()
        self._under_way = False
        self._before = ""

    def verify(self, card: CardConnection) -> None:
        """Have the reader ask, and VERIFY: one try, if the person types one. Called in the card's thread.

        Raises:
            InlayError: ``pad_…``: nothing went to the card; ``card_pin_…``, ``pcsc_…``; the window was closed.
        """
        pad = piv_pad.pad_in(card)
        if pad is None or pad.verify is None:
            raise InlayError("pad_missing")
        tries = piv_pin.tries_left(card)
        if tries == 0:
            raise InlayError("card_pin_blocked")
        before = self._before
        if self._under_way:
            before = _TORN
            self._left.unsure()
        self._say(" ".join(text for text in (self._left.warning(tries, before), _QUESTION) if text))
        self._under_way, self._before = True, ""
        try:
            piv_pad.verify(card, pad)
        except InlayError as error:
            self._under_way = error.code.startswith("pcsc_")
            raise
        self._under_way = False
        self._say(_TYPED)

    async def until_typed(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do something that has the reader ask, and again when the person was wrong, or too slow.

        Raises:
            InlayError: what the work raises; ``pad_timeout``, ``pad_length`` after several in a row.
        """
        in_vain = 0
        while True:
            try:
                return await work()
            except InlayError as error:
                in_vain = 0 if error.code == "card_pin_wrong" else in_vain + 1
                if error.code not in _ASKED_AGAIN or in_vain == _IN_VAIN:
                    raise
                if error.code == "card_pin_wrong":
                    self._before = error.happened
                    self._left.refused(error)
                else:
                    self._before = f"{error.happened} {error.why}"

    def _say(self, text: str) -> None:
        async def show() -> None:
            await self._show(text)

        asyncio.run_coroutine_threadsafe(show(), self._loop).result()


def has_pad(card: CardConnection) -> bool:
    """Whether the reader of a card can ask for a PIN.

    Raises:
        InlayError: ``pcsc_…``: card or service have gone.
    """
    pad = piv_pad.pad_in(card)
    return pad is not None and pad.verify is not None
