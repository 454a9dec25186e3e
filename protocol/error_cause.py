"""What a row of the table of errors says; see ``protocol.error_table``."""

from __future__ import annotations

from typing import NamedTuple


class Cause(NamedTuple):
    """One row of the table.

    Attributes:
        code: the name on the wire.
        number: JSON-RPC error number; -32768…-32000 are JSON-RPC's own, ours are 1000 and up.
        happened: what happened, for a person. ``{field}`` is filled in from the error's fields.
        why: why it happened.
        next_step: what to do now.
        page: whether the web page may be told (a page never learns more about the machine than it must).
    """

    code: str
    number: int
    happened: str
    why: str
    next_step: str
    page: bool = True
