"""``cards.show`` and ``cards.window``: a card with all its details, as values or in a window with what can be done."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from agent.card_ports import PASSING, the_card
from agent.handlers.card_dialogue import CardParams, begin, certificate_lines
from agent.handlers.change_card_pin import change_pin
from agent.handlers.delete_card import delete_card
from agent.handlers.unblock_card import unblock_card
from agent.ports import CardSheet
from protocol import codec
from protocol.errors import InlayError

if TYPE_CHECKING:
    from typing import Any

    from agent.card_ports import CardKeeping, CardStanding, KnownCard
    from agent.conversation import Conversation
    from agent.order_ports import PrivateRequest, Services
    from agent.ports import CardWindow
    from agent.virtual_card_ports import Shown

_LEVELS = {
    "tpm": "this computer's TPM chip",
    "keystore": "the key store of your login",
    "file": "a protected file on this computer",
}
_ACTIONS = {"change-pin": change_pin, "unblock": unblock_card, "delete": delete_card}


async def handle(services: Services, request: PrivateRequest) -> dict[str, Any]:
    """All cards, or the one that is named, with all details.

    Raises:
        InlayError: ``card_unknown``, ``card_ambiguous``; DecodeError: ``params_invalid``.
    """
    params = codec.convert(dict(request.params), CardParams, malformed="params_invalid")
    known = await services.care.known()
    wanted = known if params.card is None else [the_card(known, params.card)]
    return {"cards": [await _values(services.care, card) for card in wanted]}


async def handle_window(services: Services, request: PrivateRequest) -> Conversation:
    """Show a card in a window, from which its PIN can be changed, and so on.

    Raises:
        DecodeError: ``params_invalid``.
    """
    return begin(services, request, "Your cards", partial(show_card, services.care), any_card=True)


async def show_card(cards: CardKeeping, window: CardWindow, card: KnownCard) -> dict[str, Any]:
    """Show a card, and do what is chosen there; what the command answers.

    Raises:
        InlayError: of what was chosen.
    """
    chosen = await window.show_card(await _sheet(cards, card))
    if chosen is None:
        return {"card": card.card, "label": card.label, "done": "", "notes": []}
    return await _ACTIONS[chosen](cards, window, card)


async def _values(cards: CardKeeping, card: KnownCard) -> dict[str, Any]:
    if card.error is not None or not card.active:
        state = "being_made" if card.error is None else "unusable"
        problem = InlayError("card_not_active") if card.error is None else card.error
        return {"card": card.card, "label": card.label, "state": state, "problem": _text(problem)}
    standing, shown = await cards.standing(card.card), await cards.where(card.card)
    record = standing.record
    return {
        "card": card.card,
        "label": standing.facts.label,
        "serial": standing.facts.serial,
        "guid": standing.facts.guid,
        "state": "active",
        "level": standing.facts.level.value,
        "portal": None if record is None else record.portal,
        "account": None if record is None else record.account,
        "expires": None if standing.expires is None else standing.expires.isoformat(),
        "reader": shown.reader,
        "problem": None if shown.problem is None else _text(shown.problem),
        "pin_tries": standing.pin_tries,
        "puk_tries": standing.puk_tries,
        "certificates": [
            {
                "slot": item.slot,
                "purpose": line.purpose,
                "subject": line.subject,
                "not_before": line.not_before,
                "not_after": line.not_after,
            }
            for item, line in zip(standing.facts.certificates, certificate_lines(standing), strict=True)
        ],
    }


async def _sheet(cards: CardKeeping, card: KnownCard) -> CardSheet:
    if card.error is not None or not card.active:
        problem = InlayError("card_not_active") if card.error is None else card.error
        lasting = card.error is not None and card.error.code not in PASSING
        actions = (("delete", "Delete the card"),) if lasting else ()
        return CardSheet(
            card.label or "A card that can't be read", (("File", card.card),), str(problem), (), actions
        )
    standing, shown = await cards.standing(card.card), await cards.where(card.card)
    return CardSheet(
        title=standing.facts.label,
        fields=tuple(_fields(standing, shown)),
        warning=_warning(standing, shown),
        certificates=certificate_lines(standing),
        actions=tuple(_offers(standing)),
    )


def _fields(standing: CardStanding, shown: Shown) -> list[tuple[str, str]]:
    facts, record = standing.facts, standing.record
    fields = [("Serial", facts.serial), ("GUID", facts.guid)]
    if record is not None:
        fields += [("Account", record.account), ("Portal", record.portal)]
    if standing.expires is not None:
        fields.append(("Valid until", standing.expires.isoformat()))
    fields += [("Keys in", _LEVELS[facts.level.value]), ("PIN", _tries(standing.pin_tries))]
    fields += [("PUK", _tries(standing.puk_tries)), ("Reader", shown.reader or "none")]
    return fields


def _tries(tries: int) -> str:
    return "blocked" if not tries else f"{tries} {'try' if tries == 1 else 'tries'} left"


def _warning(standing: CardStanding, shown: Shown) -> str | None:
    if not standing.pin_tries:
        return str(InlayError("pin_blocked" if standing.puk_tries else "puk_blocked"))
    return None if shown.problem is None else str(shown.problem)


def _offers(standing: CardStanding) -> list[tuple[str, str]]:
    """What can be done: never what the card would refuse anyway."""
    offers = [("change-pin", "Change the PIN")] if standing.pin_tries else []
    if standing.puk_tries:
        offers.append(("unblock", "Unblock with the PUK"))
    return [*offers, ("delete", "Delete the card")]


def _text(error: InlayError) -> str:
    return f"{error.happened} {error.why}"
