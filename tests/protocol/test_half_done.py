"""What a person is told of a card that is half done."""

from __future__ import annotations

import pytest

from protocol import half_done
from protocol.errors import InlayError


@pytest.mark.parametrize(
    ("code", "own"),
    [
        ("pcsc_card_removed", "Put it in again."),
        ("internal", ""),
        ("card_half_done", ""),
    ],
)
def test_that_it_is_started_again_is_said_once(code: str, own: str) -> None:
    """The advice of the cause says so as well, at its beginning or at its end."""
    told = half_done.next_step(InlayError(code))
    whole = InlayError(half_done.CODE)
    assert told == " ".join(part for part in (whole.happened, own, whole.next_step) if part)
    assert told.lower().count("start again from the page") == 1
