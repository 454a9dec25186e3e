"""Errors that cross a boundary or reach a person: exceptions made of the rows of ``protocol.error_table``.

The tree of exceptions::

    InlayError            a cause of the table, with the fields that its text names
    └── DecodeError       a frame or message that isn't one; names the path

A peer gets ``code``, a number for JSON-RPC, and the fields; a person gets what happened, why, and what to do
next. Neither ever gets the text of an exception from below.
"""

from __future__ import annotations

import re
import string
from typing import Final

from protocol.error_cause import Cause as Cause
from protocol.error_table import TABLE as TABLE


class InlayError(Exception):
    """An error of the table.

    Attributes:
        code: key of ``TABLE``.
        fields: values for the text's placeholders; strings and numbers only, never secrets.
    """

    def __init__(self, code: str, **fields: str | int) -> None:
        if code not in TABLE:
            raise KeyError(code)
        super().__init__(code)
        self.code = code
        self.fields = fields

    @property
    def cause(self) -> Cause:
        """The error's row of the table."""
        return TABLE[self.code]

    @property
    def happened(self) -> str:
        """What happened, with the fields filled in."""
        return _fill(self.cause.happened, self.fields)

    @property
    def why(self) -> str:
        """Why it happened, with the fields filled in."""
        return _fill(self.cause.why, self.fields)

    @property
    def next_step(self) -> str:
        """What to do now, with the fields filled in."""
        return _fill(self.cause.next_step, self.fields)

    def __str__(self) -> str:
        return f"{self.happened} {self.why} {self.next_step}"


class DecodeError(InlayError):
    """A frame or message that isn't one.

    Attributes:
        path: where, as in ``$.params.keys[2].slot``.
    """

    def __init__(self, code: str, path: str = "$", **fields: str | int) -> None:
        super().__init__(code, path=path, **fields)
        self.path = path


FIELD_FORMS: Final = {
    "check": "chain|date|firmware|key|policy|serial|slot",
    "command": "[A-Z0-9 ]{1,24}",
    "status": "[0-9A-F]{4}",
    "algorithm": "[A-Z0-9-]{1,12}(, [A-Z0-9-]{1,12}){0,3}",
    "guid": "[0-9a-f]{32}",
    "left": "few|one",
    "level": "tpm|keystore|file|none",
    "method": "[a-z_]{1,24}",
    "object": "5F[0-9A-F]{4}",
    "path": r"\$([.\[]\w{1,24}\]?){0,8}",
    "policy": "PIN (never|once|always)(, touch (never|always|cached))?|touch (never|always|cached)",
    "purpose": "authentication|signature|encryption",
    "slot": "[89][0-9A-F]",
    "state": "[a-z_]{1,16}",
    "what": "a card by the driver (piv|pkcs11)|the step [a-z_]{1,16}|the PIN entry [a-z]{1,8} [a-z]{1,8}",
    "supported": "[0-9]{1,5}(, [0-9]{1,5}){0,7}",
}
"""Text that a peer may put into our sentences, by the field's name (whole match; the page's client has them, too):
words of a closed kind, never a phrase."""
MAX_FIELD_NUMBER: Final = 1_000_000_000
UNTOLD: Final = dict.fromkeys(("left", "tries"), "the card doesn't tell how many")
"""What stands in a sentence for a field that isn't known, by the field's name; ``?`` for any other."""


def from_wire(code: str, fields: dict[str, str | int]) -> InlayError:
    """Build the error that a peer names; an unknown code becomes ``internal``.

    Numbers are kept, and texts of the form that their field has; any other text is dropped, and shown as one that isn't
    known (`UNTOLD`): a peer selects our sentences, and writes none.
    """
    if code not in TABLE:
        return InlayError("internal")
    return InlayError(code, **{name: value for name, value in fields.items() if _has_form(name, value)})


def _has_form(name: str, value: str | int) -> bool:
    if isinstance(value, int):
        return 0 <= value < MAX_FIELD_NUMBER
    form = FIELD_FORMS.get(name)
    return form is not None and re.fullmatch(form, value, re.ASCII) is not None


def placeholders(code: str) -> frozenset[str]:
    """The fields that the texts of a row name."""
    row = TABLE[code]
    return frozenset(name for text in (row.happened, row.why, row.next_step) for name in _named(text))


def _named(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def _fill(text: str, fields: dict[str, str | int]) -> str:
    return text.format_map({name: fields.get(name, UNTOLD.get(name, "?")) for name in _named(text)})
