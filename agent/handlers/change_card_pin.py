"""``cards.change_pin``: the person chooses a new PIN for a card, and shows the one it has."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from agent.handlers.card_dialogue import begin, card_name
from agent.handlers.pin_questions import known_pin, set_new_pin
from agent.ports import OrderPrompt

if TYPE_CHECKING:
    from typing import Any

    from agent.card_ports import CardKeeping, CardStanding, KnownCard
    from agent.conversation import Conversation
    from agent.order_ports import PrivateRequest, Services
    from agent.ports import CardWindow, Consented

TITLE = "Change the PIN of a card"
CONSEQUENCES = (
    "The card gets the PIN that you choose now; the old one is worth nothing any more.",
    "Programs that use the card at this moment ask for the new PIN.",
)
DONE = "The PIN is changed"
NOTES = ("The new PIN is the one to type from now on, in every program.",)


async def handle(services: Services, request: PrivateRequest) -> Conversation:
    """Change a card's PIN.

    Raises:
        DecodeError: ``params_invalid``.
    """
    return begin(services, request, TITLE, partial(change_pin, services.care), any_card=False)


async def change_pin(cards: CardKeeping, window: CardWindow, card: KnownCard) -> dict[str, Any]:
    """Ask in a window until the PIN is changed; what the command answers.

    Raises:
        InlayError: ``pin_blocked``, ``user_cancelled``, ``card_write_failed`` …
    """
    standing = await cards.standing(card.card)

    async def question(warning: str | None) -> Consented:
        return await window.ask(_prompt(standing, warning))

    async def change(known: bytearray, new: bytearray) -> None:
        await window.show_progress("change", "Changing the PIN", 0, 1, can_cancel=False)
        await cards.change_pin(card.card, known, new)

    await set_new_pin(cards, card.card, "PIN", question, change)
    await window.show_done(DONE, NOTES)
    return {"card": card.card, "label": card.label, "done": f"{DONE}.", "notes": list(NOTES)}


def _prompt(standing: CardStanding, warning: str | None) -> OrderPrompt:
    return OrderPrompt(
        portal_name="Inlay",
        origin="",
        account="",
        title=TITLE,
        consequences=CONSEQUENCES,
        pin_policy=standing.rules,
        confirm_label="Change PIN",
        card=card_name(standing),
        known=known_pin(standing),
        warning=warning,
        working="Changing the PIN",
    )
