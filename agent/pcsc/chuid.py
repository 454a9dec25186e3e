"""Whose card is in a reader: the GUID of its CHUID, read as any other program would.

Parses with the host's own code: the card's side must not judge itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.pcsc import piv_objects, piv_select, scard
from agent.pcsc.connection import CardConnection
from protocol.errors import InlayError

if TYPE_CHECKING:
    from agent.pcsc.scard import Context


def read_guid(context: Context, reader: str) -> str | None:
    """Read the GUID of the card in a reader (SP 800-73pt1-5, section 3.1.2).

    Returns:
        32 hexadecimal digits; None when it isn't a PIV card with a GUID.

    Raises:
        InlayError: ``pcsc_…``, ``card_answer_malformed``.
    """
    with CardConnection(context.connect(reader), reader) as card:
        try:
            with card.held():
                piv_select.select(card)
                chuid = piv_objects.read_chuid(card)
        except InlayError as error:
            if error.code in ("card_not_supported", "card_refused", "card_pin_needed"):
                return None
            raise
    return None if chuid is None else chuid.guid.hex()


def find(guid: str) -> str | None:
    """The reader that shows the card with this GUID; None when no reader does.

    Raises:
        InlayError: ``pcsc_no_service``, ``pcsc_failed``.
    """
    with scard.Context() as context:
        for reader in context.readers():
            if reader.present and _shows(context, reader.name, guid):
                return reader.name
    return None


def shows(reader: str, guid: str) -> bool:
    """Whether the card in a reader has this GUID.

    Raises:
        InlayError: ``pcsc_…``.
    """
    with scard.Context() as context:
        return read_guid(context, reader) == guid


def _shows(context: Context, reader: str, guid: str) -> bool:
    try:
        return read_guid(context, reader) == guid
    except InlayError as error:
        if error.code == "pcsc_no_service":
            raise
        return False  # another reader's card that doesn't answer isn't ours
