"""``cards.delete``: the person removes a card from this computer, told beforehand what is lost with it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from agent.handlers.card_dialogue import begin, card_name, certificate_lines
from agent.ports import OrderPrompt

if TYPE_CHECKING:
    from typing import Any

    from agent.card_ports import CardKeeping, CardStanding, KnownCard
    from agent.conversation import Conversation
    from agent.order_ports import PrivateRequest, Services
    from agent.ports import CardWindow

TITLE = "Delete a card"
WORD = "delete"
WARNING = "The card and its keys are removed from this computer. That can't be undone."
_DECRYPTS = frozenset({"9D", *(f"{slot:02X}" for slot in range(0x82, 0x96))})


async def handle(services: Services, request: PrivateRequest) -> Conversation:
    """Delete a card, readable or not.

    Raises:
        DecodeError: ``params_invalid``.
    """
    return begin(services, request, TITLE, partial(delete_card, services.care), any_card=True)


async def delete_card(cards: CardKeeping, window: CardWindow, card: KnownCard) -> dict[str, Any]:
    """Ask in a window, then remove the card; what the command answers.

    Raises:
        InlayError: ``user_cancelled``, ``card_write_failed`` …
    """
    name, losses = card.card, unreadable_losses(card)
    if card.error is None:
        standing = await cards.standing(card.card)
        name, losses = card_name(standing), card_losses(standing)
    await window.ask(
        OrderPrompt(
            portal_name="Inlay",
            origin="",
            account="",
            title=TITLE,
            consequences=(*losses, *_untold(card)),
            pin_policy=None,
            confirm_label="Delete",
            card=name,
            warning=WARNING,
            typed=WORD,
            working="Deleting the card",
        )
    )
    await window.show_progress("delete", "Deleting the card", 0, 1, can_cancel=False)
    await cards.delete(card.card)
    said = _to_do(card)
    await window.show_done("The card is deleted", said)
    return {"card": card.card, "label": card.label, "done": "The card is deleted.", "notes": list(said)}


def card_losses(standing: CardStanding) -> tuple[str, ...]:
    """What is lost with a card: its certificates, and what only they can open."""
    lost = [
        f"{line.purpose} certificate, {line.subject}, until {line.not_after}"
        for line in certificate_lines(standing)
    ]
    lines = [f"Lost: {text}." for text in lost] or ["There is no certificate on it."]
    decrypts = {item.slot for item in standing.facts.certificates} & _DECRYPTS
    if decrypts & standing.made_keys:
        lines.append(
            "What was encrypted for it can't be read any more: there is no copy of the key that was made on the card."
        )
    elif decrypts:
        lines.append("The portal keeps a copy of its encryption key: its support can put that on a new card.")
    return tuple(lines)


def unreadable_losses(card: KnownCard) -> tuple[str, ...]:
    """The same for a card whose file can't be read."""
    why = "" if card.error is None else f" {card.error.why}"
    return (f"The card can't be used as it is, and nobody can tell what is on it.{why}",)


def _untold(card: KnownCard) -> tuple[str, ...]:
    portal = "The portal" if card.portal is None else f"The portal {card.portal}"
    return (f"{portal} is not told by this: there, the card and its certificates stay valid.",)


def _to_do(card: KnownCard) -> tuple[str, ...]:
    if card.portal is None:
        return ("Ask the portal's support to lock the card there, so that its certificates are revoked.",)
    return (
        f"Its certificates are still valid at https://{card.portal}: delete the card there, too, under Cards, "
        "or ask the portal's support to lock it.",
    )
