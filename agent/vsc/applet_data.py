"""SELECT, GET DATA, PUT DATA, version and serial number.

SP 800-73pt2-5, sections 3.1 and 3.3.1.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from agent.vsc import objects, tlv
from agent.vsc.apdu import StatusError, StatusWord
from agent.vsc.applet_keys import require_management
from agent.vsc.commands import PIV_AID, RETIRED, GetData, PutData, Select
from agent.vsc.outcome import Outcome
from agent.vsc.state import PersistentState, VolatileState

_RID_BYTES: Final = 5
_RETIRED_CERTIFICATES: Final = frozenset(objects.CERTIFICATE_TAGS[slot] for slot in RETIRED)


def select(state: PersistentState, volatile: VolatileState, command: Select) -> Outcome:
    """SELECT. Selecting again, or another application in vain, leaves the security state alone.

    SP 800-73pt2-5, section 3.1.1.
    """
    if not command.known:
        raise StatusError(StatusWord.NOT_FOUND)
    return Outcome(state, replace(volatile, selected=True), _APPLICATION)


def get_data(state: PersistentState, volatile: VolatileState, command: GetData) -> Outcome:
    """GET DATA."""
    if command.tag == objects.DISCOVERY:
        return Outcome(state, volatile, objects.discovery())
    if command.tag in objects.NEEDS_PIN and not volatile.pin_verified:
        raise StatusError(StatusWord.SECURITY_NOT_SATISFIED)
    value = state.objects.get(command.tag)
    if value is None:
        raise StatusError(StatusWord.NOT_FOUND)
    return Outcome(state, volatile, tlv.encode(0x53, value))


def put_data(state: PersistentState, volatile: VolatileState, command: PutData) -> Outcome:
    """PUT DATA; an empty value deletes, also what isn't there."""
    require_management(volatile)
    if command.tag not in objects.WRITABLE:
        raise StatusError(StatusWord.NOT_FOUND)
    remaining = {tag: value for tag, value in state.objects.items() if tag != command.tag}
    if command.value:
        remaining[command.tag] = command.value
    if command.tag in _RETIRED_CERTIFICATES:
        remaining = objects.with_key_history(remaining, state.slots)
    return Outcome(replace(state, objects=remaining), volatile)


def _application_template() -> bytes:
    """The application property template (SP 800-73pt2-5, table 3)."""
    authority = tlv.encode(0x79, tlv.encode(0x4F, PIV_AID[:_RID_BYTES]))
    return tlv.encode(
        0x61, tlv.encode(0x4F, PIV_AID[_RID_BYTES:]) + authority + tlv.encode(0x50, b"Inlay PIV")
    )


_APPLICATION: Final = _application_template()
