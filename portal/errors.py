"""What the portal refuses, beside the causes of ``protocol.errors``.

The tree of exceptions::

    PortalError
    ├── WrongState      an object is in a state that doesn't allow this; names the states that would do
    ├── WrongReason     a state may change so, and for other reasons
    ├── ModelFaults     the configured graphs, templates and relation types break a rule; the portal doesn't start
    ├── FieldErrors     a form can't be saved; one text for each field
    ├── StalePage       the page shows an older version than the one stored
    ├── NotFound        there is no such object, or it is another person's
    ├── Forbidden       the person lacks a role
    ├── SecondPerson    the step needs somebody other than who started the process
    ├── SwitchedOff     an administrator has switched the process off
    ├── LoginRefused    wrong e-mail address or password; never says which
    ├── EncodingError   an encoding description can't be used (``portal.encoding.problems``)
    └── AuditBroken     the audit log was changed (``portal.audit_heads``)

Each carries fields; the text for a person is made from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

_OBJECTS: Final = {
    "card": "The card",
    "temporary_card": "The temporary card",
    "virtual_smart_card": "The virtual smart card",
    "mobile_id": "The mobile ID",
    "certificate": "The certificate",
    "order": "The order",
    "process": "The process",
    "user": "Your account",
    "subject": "The account of the person this is about",
}

_ABSENT: Final = {"archived_key": "The archive has no key of this person."}


class PortalError(Exception):
    """Base of what the portal refuses."""


class WrongState(PortalError):
    """An object's state doesn't allow what was asked.

    Attributes:
        kind: kind of object, for example ``virtual_smart_card``.
        state: the state it is in.
        would_do: the states from which it would be possible, sorted.
    """

    def __init__(self, kind: str, state: str, would_do: Iterable[str]) -> None:
        super().__init__(kind, state)
        self.kind = kind
        self.state = state
        self.would_do = sorted(would_do)

    def __str__(self) -> str:
        needed = " or ".join(self.would_do) or "none: this can't be done any more"
        return f"{_OBJECTS.get(self.kind, self.kind)} is {self.state}. The state needed: {needed}."


class WrongReason(PortalError):
    """A state may change as was asked, and for other reasons.

    Attributes:
        kind: kind of object.
        transition: both states.
        reason: what was given.
        would_do: the reasons that would do, sorted.
    """

    def __init__(self, kind: str, transition: str, reason: str, would_do: Iterable[str]) -> None:
        super().__init__(kind, transition, reason)
        self.kind = kind
        self.transition = transition
        self.reason = reason
        self.would_do = sorted(would_do)

    def __str__(self) -> str:
        needed = " or ".join(self.would_do)
        return (
            f"{self.kind}: {self.transition} isn't for the reason {self.reason}. The reason needed: {needed}."
        )


class ModelFaults(PortalError):
    """The configured state graphs, certificate templates or relation types break a rule: the portal doesn't start.

    Attributes:
        faults: one sentence for each; names graph or template, and the rule.
    """

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__(*self.faults)

    def __str__(self) -> str:
        return "the portal doesn't start with this configuration:\n  " + "\n  ".join(self.faults)


class FieldErrors(PortalError):
    """A form can't be saved.

    Attributes:
        errors: field to the sentence that says what is wrong with it.
    """

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__(tuple(errors))
        self.errors = dict(errors)

    def __str__(self) -> str:
        return " ".join(f"{name}: {text}" for name, text in self.errors.items())


class StalePage(PortalError):
    """The page that was sent shows an older version than the one stored.

    Attributes:
        version: the version stored now.
    """

    def __init__(self, version: int) -> None:
        super().__init__(version)
        self.version = version

    def __str__(self) -> str:
        return "This page is out of date. It was loaded anew; look at it and go on from here."


class NotFound(PortalError):
    """There is no such object, or it belongs to somebody else.

    Attributes:
        kind: kind of object.
    """

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind

    def __str__(self) -> str:
        return _ABSENT.get(self.kind, "There is no such thing here.")


class Forbidden(PortalError):
    """The person lacks a role.

    Attributes:
        role: the role that is needed.
    """

    def __init__(self, role: str) -> None:
        super().__init__(role)
        self.role = role

    def __str__(self) -> str:
        return f"This needs the role {self.role}."


class SecondPerson(PortalError):
    """The step is for somebody other than who started the process."""

    def __str__(self) -> str:
        return "You started this yourself. Somebody else has to agree to it."


class SwitchedOff(PortalError):
    """An administrator has switched the process off.

    Attributes:
        script: the script whose option does.
        option: the option.
    """

    def __init__(self, script: str, option: str) -> None:
        super().__init__(script, option)
        self.script = script
        self.option = option

    def __str__(self) -> str:
        return f"This is switched off in this portal (option {self.option} of {self.script})."


class LoginRefused(PortalError):
    """Wrong e-mail address or password."""

    def __str__(self) -> str:
        return "The e-mail address or the password is wrong."
