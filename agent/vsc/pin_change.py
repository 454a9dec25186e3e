"""A new PIN for the person who has the old one, or the PUK: what *change PIN* and *unblock* are made of.

Values of a wrong form are refused before the card sees them, so that a slip of the hand costs no try. The rest is
the card's own CHANGE REFERENCE DATA and RESET RETRY COUNTER (SP 800-73pt2-5, sections 3.2.2 and 3.2.3). All
functions block (Argon2id, the disk): call them in the card's worker thread. Values belong to the caller, who wipes
them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.vsc.apdu import StatusWord
from agent.vsc.card import pad
from agent.vsc.commands import ChangeReference, Reference, ResetRetry, Verify
from protocol.errors import InlayError

if TYPE_CHECKING:
    from agent.vsc.card import VirtualCard


def verify_pin(card: VirtualCard, pin: bytearray) -> None:
    """Compare the PIN, and spend a try where it is wrong; nobody is logged in afterwards.

    Args:
        card: the card, in a reader or not.
        pin: the PIN.

    Raises:
        ValueError: it can't be a PIN; no try was spent.
        InlayError: ``pin_wrong``, ``pin_blocked``; ``card_write_failed``: nothing was compared.
    """
    if card.carry_out(Verify(pad(pin))) == StatusWord.OK:
        return
    tries = card.details().pin_tries
    raise InlayError("pin_wrong", tries=tries) if tries else InlayError("pin_blocked")


def change_pin(card: VirtualCard, old: bytearray, new: bytearray) -> None:
    """Replace the PIN by a new one; on the disk when this returns.

    Args:
        card: the card, in a reader or not.
        old: the PIN.
        new: 6 to 8 printable ASCII bytes.

    Raises:
        ValueError: one of them can't be a PIN; no try was spent.
        InlayError: ``pin_wrong``, ``pin_blocked``; ``card_write_failed``: the old PIN is still the one.
    """
    status = card.carry_out(ChangeReference(Reference.PIN, pad(old), pad(new)))
    if status == StatusWord.OK:
        return
    tries = card.details().pin_tries
    raise InlayError("pin_wrong", tries=tries) if tries else InlayError("pin_blocked")


def unblock_pin(card: VirtualCard, puk: bytearray, new: bytearray) -> None:
    """Set a new PIN by the PUK, blocked or not; on the disk when this returns.

    Args:
        card: the card, in a reader or not.
        puk: the PUK.
        new: 6 to 8 printable ASCII bytes.

    Raises:
        ValueError: one of them can't be a PIN or PUK; no try was spent.
        InlayError: ``puk_wrong``, ``puk_blocked``; ``card_write_failed``: PIN and tries are as before.
    """
    status = card.carry_out(ResetRetry(pad(puk), pad(new)))
    if status == StatusWord.OK:
        return
    tries = card.details().puk_tries
    raise InlayError("puk_wrong", tries=tries) if tries else InlayError("puk_blocked")
