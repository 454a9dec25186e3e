"""What the commands about a card have in common: which card is meant, its window, and how a card is told.

The window is the person's own: opened by a command on the private socket, never by a page or an order.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import msgspec
from cryptography import x509

from agent.card_ports import the_card
from agent.certificates import UNREADABLE
from agent.conversation import Conversation
from agent.ports import CardChoice, CertificateLine, InteractionError, UserCancelled
from protocol import codec
from protocol.errors import InlayError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from agent.card_ports import CardStanding, KnownCard
    from agent.order_ports import PrivateRequest, Services
    from agent.ports import CardWindow
    from agent.virtual_card_ports import SlotCertificate

    Work = Callable[[CardWindow, KnownCard], Awaitable[dict[str, Any]]]

_PURPOSES = {"9A": "Authentication", "9C": "Signature", "9D": "Encryption", "9E": "Card authentication"}


class CardParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters on the private socket: serial, GUID, label or file of a card; None when there is one only."""

    card: str | None = None


def begin(
    services: Services, request: PrivateRequest, title: str, work: Work, *, any_card: bool
) -> Conversation:
    """Begin a conversation about a card.

    Args:
        services: the cards and the windows.
        request: names the card, or leaves it to the person.
        title: what is going to be done, where a card has to be chosen first.
        work: what is done in the window with the card that is meant.
        any_card: unusable cards may be meant, too.

    Raises:
        DecodeError: ``params_invalid``.
    """
    params = codec.convert(dict(request.params), CardParams, malformed="params_invalid")
    return Conversation(_converse(services, request, params.card, title, work, any_card=any_card))


async def _converse(
    services: Services, request: PrivateRequest, name: str | None, title: str, work: Work, *, any_card: bool
) -> dict[str, Any]:
    fitting = _fitting(await services.care.known(), name, any_card=any_card)
    window = await services.windows.open_cards(request.environment)
    try:
        try:
            with services.shutdown.busy(f"“{title}”"):
                result = await work(window, await _choose(window, title, fitting))
        except InlayError as error:
            if request.environment.has_display and not isinstance(error, UserCancelled):
                with contextlib.suppress(InteractionError):
                    await window.show_error(error)
                    await window.wait_closed()
            raise
        await window.wait_closed()
    finally:
        await window.close()
    return result


def _fitting(known: list[KnownCard], name: str | None, *, any_card: bool) -> list[KnownCard]:
    """The cards that may be meant, at least one.

    Raises:
        InlayError: ``no_card``, ``card_unknown``, ``card_ambiguous``; why the only ones that are there can't be used.
    """
    meant = known if name is None else [the_card(known, name)]
    fitting = [card for card in meant if any_card or card.active]
    if not fitting:
        unusable = next((card.error or InlayError("card_not_active") for card in meant), None)
        raise unusable or InlayError("no_card")
    return fitting


async def _choose(window: CardWindow, title: str, known: list[KnownCard]) -> KnownCard:
    if len(known) == 1:
        return known[0]
    choices = [
        CardChoice(card.card, card.label or "A card that can't be read", _detail(card)) for card in known
    ]
    chosen = await window.choose(title, choices)
    return next(card for card in known if card.card == chosen)


def _detail(card: KnownCard) -> str:
    if card.error is not None:
        return card.error.why
    whose = f", {card.account}" if card.account else ""
    return f"Serial {card.serial}{whose}"


def card_name(standing: CardStanding) -> str:
    """A card in a question: label and serial."""
    return f"{standing.facts.label} (serial {standing.facts.serial})"


def certificate_lines(standing: CardStanding) -> tuple[CertificateLine, ...]:
    """The certificates on a card, in the order of their slots."""
    return tuple(_line(item) for item in standing.facts.certificates)


def _line(item: SlotCertificate) -> CertificateLine:
    purpose = _PURPOSES.get(item.slot, f"Earlier encryption ({item.slot})")
    try:
        certificate = x509.load_der_x509_certificate(item.certificate)
        subject = certificate.subject.rfc4514_string()
        since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except UNREADABLE:  # another program can have written anything
        return CertificateLine(purpose, "A certificate that can't be read", "?", "?")
    return CertificateLine(purpose, subject, since.date().isoformat(), until.date().isoformat())
