"""Times as staff's pages and files write them: UTC, so that two people on two continents read the same."""

from __future__ import annotations

import time


def day(seconds: int) -> str:
    """``YYYY-MM-DD``."""
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def moment(seconds: int) -> str:
    """``YYYY-MM-DD HH:MM UTC``."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
