"""``KeyArchiveScriptOptions``: who has to agree before archived keys leave the archive again."""

from __future__ import annotations

from typing import Final, cast

from portal.model.options import Option, Script, Values, nothing_across

NAME: Final = "KeyArchiveScriptOptions"
TWO_PERSONS: Final = "RecoverTwoPersons"
_HOURS: Final = "RecoverWithinHours"


def _warn(values: Values) -> dict[str, str]:
    if values[TWO_PERSONS]:
        return {}
    return {
        TWO_PERSONS: "Whoever replaces a lost card gets its encryption keys without anybody agreeing to it."
    }


SCRIPT: Final = Script(
    NAME,
    "Key archive",
    (
        Option(
            TWO_PERSONS,
            "Recovery needs two persons",
            "Yes: archived encryption keys go on to another card only after an operator has asked for it and an "
            "approver has agreed. No: replacing a card is enough; cards in a reader need it all the same.",
            "bool",
            False,
        ),
        Option(
            _HOURS,
            "Recovery within",
            "How long an operator's request waits for an approver, and how long an agreement can be used: once.",
            "int",
            24,
            low=1,
            high=720,
            unit="hours",
        ),
    ),
    nothing_across,
    _warn,
)


def seconds(values: Values) -> int:
    """How long requests and agreements live."""
    return cast(int, values[_HOURS]) * 3600
