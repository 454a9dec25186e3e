"""The portal's time: one function, so that a test can hold it."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Whole seconds since 1970."""


def system_clock() -> int:
    """This machine's time."""
    return int(time.time())
