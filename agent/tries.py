"""How many tries of a PIN or PUK are left, as it is said before a person spends the next one.

Not every card tells when it is asked: of the PUK only metadata does, which is beyond the standard. But most tell in the
answer to a wrong value (63Cx; SP 800-73pt2-5, sections 3.2.1 to 3.2.3), and what was said there holds until the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from protocol.errors import InlayError

What = Literal["PIN", "PUK"]
NOT_TOLD: Final = "The card doesn't tell how many tries are left."


def tries_warning(what: What, tries: int | None, wrong: InlayError | None = None) -> str | None:
    """What has to be read before the next try; None while there are plenty of the PIN, and none was spent.

    Args:
        what: what is asked for. Of a PUK it is always said: nothing brings a blocked one back.
        tries: tries left, at least 1; None: the card doesn't tell.
        wrong: why it is asked again.
    """
    said = ("" if wrong is None else wrong.happened, _left(what, tries, always=wrong is not None))
    return " ".join(text for text in said if text) or None


class Tries:
    """The tries of the PIN or PUK that one order asks for."""

    def __init__(self, what: What) -> None:
        """Nothing was tried yet."""
        self._what: What = what
        self._wrong = False
        self._told: int | None = None

    def refused(self, error: InlayError) -> None:
        """The card says that what was typed is wrong: with ``tries`` where it tells them."""
        told = error.fields.get("tries")
        known = [each for each in (self._told, told) if isinstance(each, int)]
        self._wrong, self._told = (
            True,
            min(known, default=None),
        )  # an answer that is told again is an older one

    def unsure(self) -> None:
        """A try may have been spent, and the answer never came: what was told before isn't so any more."""
        self._told = None

    def warning(self, asked: int | None, before: str = "") -> str | None:
        """What has to be read before the next try.

        Args:
            asked: tries left, at least 1, as the card tells when it is asked; None: it doesn't.
            before: what is said in front of it.
        """
        left = _left(self._what, self._told if asked is None else asked, always=self._wrong)
        return " ".join(text for text in (before, left) if text) or None


def _left(what: What, tries: int | None, *, always: bool) -> str | None:
    if tries == 1:
        rest = "the card, and only its PUK helps then" if what == "PIN" else "it for good"
        return f"This is the last try: one more wrong {what} blocks {rest}."
    if tries == 2:
        return f"2 tries are left: after one more wrong {what} there is only the last one."
    if not always and what == "PIN":
        return None
    return NOT_TOLD if tries is None else f"{tries} tries are left."
