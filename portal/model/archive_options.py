"""``KeyArchiveScriptOptions``: who has to agree before archived keys leave the archive again."""

from __future__ import annotations

from typing import Final, cast

from portal.model.options import Option, Script, Values

NAME: Final = "KeyArchiveScriptOptions"
TWO_PERSONS: Final = "RecoverTwoPersons"
IN_READER: Final = "RecoverInReaderTwoPersons"
_HOURS: Final = "RecoverWithinHours"


def _across(values: Values) -> dict[str, str]:
    if values[TWO_PERSONS] and not values[IN_READER]:
        return {
            IN_READER: "An operator's computer can't have keys by itself that their owner's own needs two persons for."
        }
    return {}


def _warn(values: Values) -> dict[str, str]:
    found = {}
    if not values[TWO_PERSONS]:
        found[TWO_PERSONS] = (
            "Whoever replaces a lost card gets its encryption keys without anybody agreeing to it."
        )
    if not values[IN_READER]:
        found[IN_READER] = (
            "Every operator alone can have the encryption keys of everybody whose card they encode."
        )
    return found


SCRIPT: Final = Script(
    NAME,
    "Key archive",
    (
        Option(
            TWO_PERSONS,
            "Recovery needs two persons",
            "Yes: archived encryption keys go on to another card only after an operator has asked for it and an "
            "approver has agreed. No: it is enough that their owner replaces a card on their own computer.",
            "bool",
            False,
        ),
        Option(
            IN_READER,
            "Recovery in a reader needs two persons",
            "Yes: so it is for a card in an operator's reader, to whose computer the keys go, whatever else is "
            "set. No: there it is enough that an operator issues or extends the card.",
            "bool",
            True,
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
    _across,
    _warn,
)


def seconds(values: Values) -> int:
    """How long requests and agreements live."""
    return cast(int, values[_HOURS]) * 3600
