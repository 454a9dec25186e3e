"""What never comes back doesn't keep the agent."""

from __future__ import annotations

import threading
import time

import pytest

from agent.pcsc import deadline
from protocol.errors import InlayError


def test_what_never_comes_back_is_left_behind() -> None:
    free = threading.Event()
    begun = time.monotonic()
    assert deadline.within(0.05, lambda: free.wait(30)) is None
    assert time.monotonic() - begun < 10
    free.set()
    with pytest.raises(InlayError):
        deadline.within(10, lambda: (_ for _ in ()).throw(InlayError("pcsc_failed")))
    assert deadline.within(10, lambda: 7) == 7
