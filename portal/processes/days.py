"""Days as the pages of processes write them."""

from __future__ import annotations

import datetime


def date_text(seconds: int) -> str:
    """A day for people."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%-d %B %Y")
