"""What the agent's values look like as messages to the window: cleaned of everything a screen would act upon."""

from __future__ import annotations

from collections.abc import Sequence

from agent.desktop import dialog_messages as messages
from agent.desktop.display_text import clean, origin_text
from agent.pin_rules import PinPolicyLike, plain_rules
from agent.ports import CardChoice, CardSheet, CardSummary, CertificateLine, KnownSecret, OrderPrompt
from protocol.errors import InlayError


def consent_message(request: OrderPrompt) -> messages.Consent:
    """The message of the consent page.

    Raises:
        ImpossiblePolicy: no PIN can keep the order's rules.
    """
    origin = origin_text(request.origin) if request.origin else None
    return {
        "show": "consent",
        "portal_name": clean(request.portal_name),
        "origin": None if origin is None else origin.ascii,
        "reading": None if origin is None else origin.reading,
        "account": clean(request.account) or None,
        "title": clean(request.title),
        "consequences": [clean(text) for text in request.consequences],
        "rules": None if request.pin_policy is None else _rules(request.pin_policy),
        "confirm_label": clean(request.confirm_label),
        "card": _clean(request.card),
        "known": None if request.known is None else _known(request.known),
        "warning": _clean(request.warning),
        "typed": request.typed,
        "working": clean(request.working),
    }


def _rules(policy: PinPolicyLike) -> messages.RulesFields:
    plain = plain_rules(policy)
    return {
        "min_length": plain.min_length,
        "max_length": plain.max_length,
        "upper": plain.upper,
        "lower": plain.lower,
        "digits": plain.digits,
        "special": plain.special,
        "agent_only": plain.agent_only,
    }


def _known(known: KnownSecret) -> messages.KnownFields:
    return {"caption": clean(known.caption), "shortest": known.shortest, "longest": known.longest}


def details_message(details: CardSummary, *, has_puk: bool) -> messages.Details:
    """The message of the details page."""
    return {
        "show": "details",
        "label": clean(details.label),
        "serial": clean(details.serial),
        "storage_level": details.storage_level,
        "certificates": [_certificate(line) for line in details.certificates],
        "notes": [clean(note) for note in details.notes],
        "has_puk": has_puk,
    }


def failure_message(error: InlayError) -> messages.Failure:
    """The message of the error page."""
    return {
        "show": "error",
        "code": error.code,
        "happened": clean(error.happened),
        "why": clean(error.why),
        "next_step": clean(error.next_step),
    }


def choose_message(title: str, cards: Sequence[CardChoice], note: str | None = None) -> messages.Choose:
    """The message of the page where a card is chosen."""
    return {
        "show": "choose",
        "title": clean(title),
        "note": _clean(note),
        "cards": [
            {
                "card": item.card,
                "label": clean(item.label),
                "detail": clean(item.detail),
                "usable": item.usable,
            }
            for item in cards
        ],
    }


def card_message(sheet: CardSheet) -> messages.Card:
    """The message of the page that shows a card."""
    return {
        "show": "card",
        "title": clean(sheet.title),
        "fields": [(name, clean(value)) for name, value in sheet.fields],
        "warning": _clean(sheet.warning),
        "certificates": [_certificate(line) for line in sheet.certificates],
        "actions": list(sheet.actions),
    }


def done_message(title: str, lines: tuple[str, ...]) -> messages.Done:
    """The message of the page that says that it is done."""
    return {"show": "done", "title": clean(title), "lines": [clean(line) for line in lines]}


def _certificate(line: CertificateLine) -> messages.CertificateFields:
    return {
        "purpose": clean(line.purpose),
        "subject": clean(line.subject),
        "not_before": clean(line.not_before),
        "not_after": clean(line.not_after),
    }


def _clean(text: str | None) -> str | None:
    return None if text is None else clean(text)
