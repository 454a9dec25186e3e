"""From what libraries and the system raise to the error table, and what the log keeps of it."""

from __future__ import annotations

import logging
import sqlite3
from logging.handlers import RotatingFileHandler
from typing import TYPE_CHECKING, Final

from agent.journal import JournalUnusableError
from agent.sealing import SealBrokenError
from protocol.errors import InlayError
from protocol.messages import ErrorData
from protocol.traces import RedactingFormatter, describe

if TYPE_CHECKING:
    from pathlib import Path

_LOG = logging.getLogger(__name__)

_LOG_BYTES: Final = 1_000_000
_LOG_FILES: Final = 3


class CardAsItWas(InlayError):
    """Ended after the point of no return by a card that has refused the first thing: nothing of it is changed."""

    def __init__(self, error: InlayError) -> None:
        super().__init__(error.code, **error.fields)


def as_inlay_error(error: BaseException) -> InlayError:
    """The row of the table for any exception; what isn't foreseen is ``internal``, and logged.

    The log gets the kinds of the exceptions and the lines of our own code, never an exception's text: it may
    quote what it choked on.
    """
    if isinstance(error, InlayError):
        return error
    if isinstance(error, JournalUnusableError):
        return InlayError("journal_unusable", cause=error.reason)
    if isinstance(error, SealBrokenError):
        return InlayError("device_secret_lost")
    if isinstance(error, sqlite3.Error):
        return InlayError("card_write_failed", cause=getattr(error, "sqlite_errorname", "SQLITE_ERROR"))
    if isinstance(error, OSError):
        _LOG.error("system error: %s", describe(error))
        return InlayError("card_write_failed", cause=error.strerror or type(error).__name__)
    _LOG.critical("not foreseen: %s", describe(error))
    return InlayError("internal")


def error_data(error: InlayError) -> ErrorData:
    """An error as the portal may have it: code and fields, never a text."""
    return ErrorData(error=error.code, fields=dict(error.fields))


def set_up_logging(path: Path, *, to_terminal: bool) -> None:
    """Log to a file of this user's, rotated; and to standard error where a person started the agent by hand.

    Args:
        path: the file; its folder is made with rights 0700.
        to_terminal: also to standard error.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    handlers: list[logging.Handler] = [
        RotatingFileHandler(path, maxBytes=_LOG_BYTES, backupCount=_LOG_FILES, encoding="utf-8")
    ]
    if to_terminal:
        handlers.append(logging.StreamHandler())
    formatter = RedactingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    for handler in handlers:
        handler.setFormatter(formatter)
        root.addHandler(handler)
    for noisy in ("websockets", "aiohttp", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
