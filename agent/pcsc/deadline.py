"""Calls of PC/SC that may never come back: a hung service, a card that hangs, another program's transaction."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Set
from typing import TypeVar

from agent.pcsc import scard
from agent.pcsc.connection import CardConnection
from agent.pcsc.look import Evidence, look
from agent.pcsc.piv_select import FEATURES
from protocol.errors import InlayError

T = TypeVar("T")


def within(seconds: float, work: Callable[[], T]) -> T | None:
    """Do something that may never come back; None when it hasn't in this time. The thread is left behind.

    Raises:
        InlayError: what the work raises.
    """
    done: queue.SimpleQueue[T | InlayError] = queue.SimpleQueue()

    def run() -> None:
        try:
            done.put(work())
        except InlayError as error:
            done.put(error)

    threading.Thread(target=run, name="deadline", daemon=True).start()
    try:
        result = done.get(timeout=seconds)
    except queue.Empty:
        return None
    if isinstance(result, InlayError):
        raise result
    return result


def look_at(reader: str, aids: Set[bytes], features: Set[str] = FEATURES) -> Evidence:
    """Look at the card in a reader, by a context of its own; may take as long as another program keeps the card.

    Args:
        reader: the reader's PC/SC name.
        aids: as `agent.pcsc.look.look`, and so are ``features``.
        features: see there.

    Raises:
        InlayError: ``pcsc_…``, ``card_answer_malformed``.
    """
    with CardConnection(scard.connect(reader), reader) as card:
        return look(card, aids, features)
