"""The names of readers, which their drivers or an administrator chose: some can't be passed on.

pyscard passes a reader's name to PC/SC in ASCII, and reads what PC/SC has of names as UTF-8. A reader whose name is
anything else can be listed at the most: it is left out, so that the others work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol.errors import InlayError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def listed(ask: Callable[[], tuple[int, Sequence[str]]]) -> tuple[int, list[str]]:
    """PC/SC's code and the names that can be used.

    Args:
        ask: SCardListReaders.

    Raises:
        InlayError: ``pcsc_reader_name``: there are readers, and not one whose name can be used.
    """
    try:
        code, names = ask()
    except (SystemError, UnicodeError):  # pyscard's way to say that one of them isn't UTF-8
        raise InlayError("pcsc_reader_name") from None
    usable = [name for name in names if name.isascii()]
    if names and not usable:
        raise InlayError("pcsc_reader_name")
    return code, usable
