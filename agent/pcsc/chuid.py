"""Whose card is in a reader: the GUID of its CHUID, read as any other program would.

Parses with code of its own: the card's side must not judge itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.pcsc import scard
from protocol.errors import InlayError

if TYPE_CHECKING:
    from agent.pcsc.scard import Context

_SELECT_PIV: Final = bytes.fromhex("00A404000BA00000030800001000010000")
_GET_CHUID: Final = bytes.fromhex("00CB3FFF055C035FC10200")
_OK: Final = 0x9000
_GUID_TAG: Final = 0x34
_GUID_BYTES: Final = 16


def read_guid(context: Context, reader: str) -> str | None:
    """Read the GUID of the card in a reader (SP 800-73pt1-5, section 3.1.2).

    Returns:
        32 hexadecimal digits; None when it isn't a PIV card with a GUID.

    Raises:
        InlayError: ``pcsc_…``.
    """
    with context.connect(reader) as card:
        if card.transmit(_SELECT_PIV)[1] != _OK:
            return None
        data, status = card.transmit(_GET_CHUID)
    return guid_in(data) if status == _OK else None


def guid_in(answer: bytes) -> str | None:
    """The GUID in an answer to GET DATA for the CHUID; None when there is none.

    Args:
        answer: ``53 L (tag L value)…`` with one-byte tags.
    """
    outer = _parse(answer)
    if outer is None or len(outer) != 1 or outer[0][0] != 0x53:
        return None
    for tag, value in _parse(outer[0][1]) or []:
        if tag == _GUID_TAG and len(value) == _GUID_BYTES:
            return value.hex()
    return None


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


def _parse(data: bytes) -> list[tuple[int, bytes]] | None:
    """Data objects with one-byte tags and lengths up to three bytes; None when cut short."""
    found = []
    at = 0
    while at < len(data):
        tag = data[at]
        header = data[at + 1 : at + 4]
        if not header:
            return None
        size = {0x81: 2, 0x82: 3}.get(header[0], 1)
        if header[0] > 0x82 or header[0] == 0x80 or len(header) < size:
            return None
        length = header[0] if size == 1 else int.from_bytes(header[1:size], "big")
        start = at + 1 + size
        if start + length > len(data):
            return None
        found.append((tag, data[start : start + length]))
        at = start + length
    return found
