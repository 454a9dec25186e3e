"""Answers to a card's questions that come too late.

An answer is late here by how long the card waits: not at all for those that are to be late, for ever for the others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import pytest

from agent import card_session
from agent.pcsc import piv_authenticate
from agent.pcsc.piv_authenticate import Question


class Patience:
    """How long the card waits for each answer.

    Attributes:
        late: numbers of the questions whose answers are late, from 1.
        asked: how many there were.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.late: Collection[int] = ()
        self.asked = 0
        self._patch, self._ask = monkeypatch, piv_authenticate.ask
        monkeypatch.setattr(piv_authenticate, "ask", self._counted)

    def _counted(self, *card: Any, **how: Any) -> Question:
        """In the card's thread, and before the answer is waited for."""
        self.asked += 1
        seconds = 0.0 if self.asked in self.late else None
        self._patch.setattr(card_session, "ANSWER_SECONDS", seconds)
        return self._ask(*card, **how)


@pytest.fixture
def patience() -> Iterator[Patience]:
    with pytest.MonkeyPatch.context() as patching:
        yield Patience(patching)
