"""Which addresses a mail can be sent to."""

from __future__ import annotations

import re
from typing import Final

_MOST: Final = 254
_MOST_LOCAL: Final = 64
_ATOM: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ENCODED: Final = "=?"
_PLAIN: Final = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*")


def usable(address: str) -> bool:
    """Whether it is a plain address (RFC 5321, section 4.1.2: dot-string and domain), in ASCII, not too long.

    Quoted local parts, comments, names and several addresses in one are none: nothing of it can become a header. Nor is
    what looks like an encoded word (RFC 2047, section 2): a header would be read as what is encoded in it.
    """
    local = address.partition("@")[0]
    fits = len(address) <= _MOST and len(local) <= _MOST_LOCAL and _ENCODED not in address
    return fits and _PLAIN.fullmatch(address) is not None
