"""What a log keeps of an exception: its kind and where it came from, never its text.

An exception's text may quote what it choked on: a PIN, a key, a row of the database, a peer's message. The kinds and
the lines of code are enough to find the fault.
"""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_FRAMES: Final = 6
_CAUSES: Final = 4


def describe(error: BaseException) -> str:
    """An exception for the log: kind and places, innermost first, and the same of what it came from."""
    return "; from ".join(_kind_and_places(item) for item in _chain(error))


class RedactingFormatter(logging.Formatter):
    """Never writes an exception's text, even where a library asks for it."""

    def format(self, record: logging.LogRecord) -> str:
        """As usual, without what another handler may have kept of an exception."""
        record.exc_text = None
        if record.name == "asyncio":
            # its further lines are the representation of a task, and so of the exception it ended with
            record = logging.makeLogRecord(
                record.__dict__ | {"msg": record.getMessage().partition("\n")[0], "args": None}
            )
        return super().format(record)

    def formatException(self, ei: object) -> str:
        """Kind and place alone."""
        error = ei[1] if isinstance(ei, tuple) else None
        return describe(error) if isinstance(error, BaseException) else ""

    def formatStack(self, stack_info: str) -> str:
        """Nothing."""
        return ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    for _ in range(_CAUSES):
        if current is None:
            return
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def _kind_and_places(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    places = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))
    return f"{type(error).__module__}.{type(error).__qualname__} at {places or 'nowhere'}"
