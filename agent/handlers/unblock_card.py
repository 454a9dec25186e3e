"""``cards.unblock``: the person sets a new PIN by the card's PUK."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from agent.handlers.card_dialogue import begin, card_name
from agent.handlers.pin_questions import known_puk, set_new_pin
from agent.ports import OrderPrompt

if TYPE_CHECKING:
    from typing import Any

    from agent.card_ports import CardKeeping, CardStanding, KnownCard
    from agent.conversation import Conversation
    from agent.order_ports import PrivateRequest, Services
    from agent.ports import CardWindow, Consented

TITLE = "Unblock a card"


async def handle(services: Services, request: PrivateRequest) -> Conversation:
    """Unblock a card.

    Raises:
        DecodeError: ``params_invalid``.
    """
    return begin(services, request, TITLE, partial(unblock_card, services.care), any_card=False)


async def unblock_card(cards: CardKeeping, window: CardWindow, card: KnownCard) -> dict[str, Any]:
    """Ask in a window until the card has a new PIN; what the command answers.

    Raises:
        InlayError: ``puk_blocked``, ``user_cancelled``, ``card_write_failed`` …
    """
    standing = await cards.standing(card.card)

    async def question(warning: str | None) -> Consented:
        return await window.ask(_prompt(standing, warning))

    async def unblock(known: bytearray, new: bytearray) -> None:
        await window.show_progress("unblock", "Unblocking the card", 0, 1, can_cancel=False)
        await cards.unblock(card.card, known, new)

    await set_new_pin(cards, card.card, "PUK", question, unblock)
    said = ("It has the PIN that you have chosen now, and all its tries.",)
    await window.show_done("The card is unblocked", said)
    return {"card": card.card, "label": card.label, "done": "The card is unblocked.", "notes": list(said)}


def _prompt(standing: CardStanding, warning: str | None) -> OrderPrompt:
    where = (
        "in Inlay's window when the card was made, or kept by the portal, whose support can tell it to you"
    )
    return OrderPrompt(
        portal_name="Inlay",
        origin="",
        account="",
        title=TITLE,
        consequences=(
            f"You need the PUK of the card. It was shown once, {where}.",
            "The card gets the PIN that you choose now, and all its tries. Keys and certificates stay.",
        ),
        pin_policy=standing.rules,
        confirm_label="Unblock",
        card=card_name(standing),
        known=known_puk(),
        warning=warning,
        working="Unblocking the card",
    )
