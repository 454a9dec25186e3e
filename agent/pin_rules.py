"""The rules for a new PIN, checked while it is typed. Pure: a policy and bytes in, a list of rules out.

A PIV PIN is stored in 8 bytes (SP 800-73-4 part 2, section 3.2.1), so the effective maximum is
min(policy, 8) unless the policy says that only this agent uses the card. A PIN is printable ASCII,
counted in bytes, and is never cut: one that is too long is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from protocol.errors import InlayError

PIV_PIN_BYTES = 8
"""Bytes a PIV card keeps of a PIN."""

PIV_PIN_MINIMUM = 6
"""Bytes a PIV PIN has at the least."""

LONGEST_PIN = 15
"""Bytes a PIN has at the most where a policy says that only this agent uses the card."""

FIRST_PRINTABLE, LAST_PRINTABLE = 0x20, 0x7E

ALLOWED, DISALLOWED, REQUIRED = "ALLOWED", "DISALLOWED", "REQUIRED"


class PinPolicyLike(Protocol):
    """The shape of `protocol.messages.PinPolicy`; presences are enums or strings named alike."""

    @property
    def min_length(self) -> int: ...  # noqa: D102
    @property
    def max_length(self) -> int: ...  # noqa: D102
    @property
    def upper(self) -> object: ...  # noqa: D102
    @property
    def lower(self) -> object: ...  # noqa: D102
    @property
    def digits(self) -> object: ...  # noqa: D102
    @property
    def special(self) -> object: ...  # noqa: D102
    @property
    def agent_only(self) -> bool: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class PinRules:
    """A policy in plain values, as it is handed to the window's process."""

    min_length: int = PIV_PIN_MINIMUM
    max_length: int = PIV_PIN_BYTES
    upper: str = ALLOWED
    lower: str = ALLOWED
    digits: str = ALLOWED
    special: str = ALLOWED
    agent_only: bool = False

    @property
    def digits_alone(self) -> bool:
        """Whether nothing but digits may be in it."""
        return self.upper == self.lower == self.special == DISALLOWED


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule and whether the PIN typed so far keeps it.

    Attributes:
        rule_id: stable name: ``length``, ``printable``, ``upper``, ``lower``, ``digits``, ``special``.
        text: the rule in the person's words.
        satisfied: True when the PIN keeps it.
        more_may_help: while not satisfied: typing more can mend it (too short, a kind still missing),
            as against taking something away.
    """

    rule_id: str
    text: str
    satisfied: bool
    more_may_help: bool = False


class ImpossiblePolicy(InlayError):
    """No PIN can keep this policy.

    Attributes:
        reason: ``length`` (minimum above the effective maximum), ``classes`` (every kind of character
            is disallowed, or more kinds are required than there are bytes), ``presence`` (a presence
            that isn't one of the three).
    """

    def __init__(self, reason: str) -> None:
        super().__init__("pin_policy_unsatisfiable")
        self.reason = reason


def plain_rules(policy: PinPolicyLike) -> PinRules:
    """Turn any policy of the right shape into plain values, and check that a PIN can keep it.

    Raises:
        ImpossiblePolicy: no PIN could.
    """
    rules = PinRules(
        policy.min_length,
        policy.max_length,
        _presence(policy.upper),
        _presence(policy.lower),
        _presence(policy.digits),
        _presence(policy.special),
        bool(policy.agent_only),
    )
    presences = (rules.upper, rules.lower, rules.digits, rules.special)
    maximum = effective_maximum(rules)
    if rules.min_length < 1 or rules.min_length > maximum:
        raise ImpossiblePolicy("length")
    if all(presence == DISALLOWED for presence in presences) or presences.count(REQUIRED) > maximum:
        raise ImpossiblePolicy("classes")
    return rules


def effective_maximum(rules: PinRules) -> int:
    """The longest PIN in bytes: min(policy, 8), or the policy's own when only the agent uses it."""
    return rules.max_length if rules.agent_only else min(rules.max_length, PIV_PIN_BYTES)


def check_pin(rules: PinRules, pin: bytes | bytearray) -> list[Rule]:
    """Judge a PIN.

    Args:
        rules: from `plain_rules`.
        pin: the bytes typed so far (a character outside ASCII as its UTF-8 bytes); not kept.

    Returns:
        Every rule that applies, in the order they are shown; the PIN is good when all are satisfied.
        An empty PIN satisfies nothing that asks for something, and breaks nothing that forbids.
    """
    maximum = effective_maximum(rules)
    if rules.digits_alone:
        return _check_digits(rules, maximum, pin)
    found = [
        Rule(
            "length",
            _length_text(rules.min_length, maximum),
            rules.min_length <= len(pin) <= maximum,
            more_may_help=len(pin) < rules.min_length,
        ),
        Rule(
            "printable",
            "Letters, digits and signs of an English keyboard",
            all(FIRST_PRINTABLE <= byte <= LAST_PRINTABLE for byte in pin),
        ),
    ]
    classes = (
        ("upper", rules.upper, "upper-case letter", any(0x41 <= byte <= 0x5A for byte in pin)),
        ("lower", rules.lower, "lower-case letter", any(0x61 <= byte <= 0x7A for byte in pin)),
        ("digits", rules.digits, "digit", any(0x30 <= byte <= 0x39 for byte in pin)),
        ("special", rules.special, "sign such as ! or #", any(_is_special(byte) for byte in pin)),
    )
    for rule_id, presence, name, present in classes:
        if presence == REQUIRED:
            found.append(Rule(rule_id, f"At least one {name}", present, more_may_help=True))
        elif presence == DISALLOWED:
            found.append(Rule(rule_id, f"No {name}", not present))
    return found


def _check_digits(rules: PinRules, maximum: int, pin: bytes | bytearray) -> list[Rule]:
    """What isn't a digit breaks one rule, not one of four."""
    length = Rule(
        "length",
        _length_text(rules.min_length, maximum, "digits"),
        rules.min_length <= len(pin) <= maximum,
        more_may_help=len(pin) < rules.min_length,
    )
    digits = all(0x30 <= byte <= 0x39 for byte in pin)
    return [length, Rule("digits", "No letters and no signs", digits)]


def keeps_rules(rules: PinRules, pin: bytes | bytearray) -> bool:
    """Whether a PIN keeps every rule."""
    return all(rule.satisfied for rule in check_pin(rules, pin))


def _presence(value: object) -> str:
    """The name of a presence, given as an enum member or a string."""
    name = str(getattr(value, "name", value)).upper()
    if name not in (ALLOWED, DISALLOWED, REQUIRED):
        raise ImpossiblePolicy("presence")
    return name


def _length_text(minimum: int, maximum: int, unit: str = "characters") -> str:
    return f"{minimum} {unit}" if minimum == maximum else f"{minimum} to {maximum} {unit}"


def _is_special(byte: int) -> bool:
    """Printable and neither letter nor digit; the space counts."""
    return FIRST_PRINTABLE <= byte <= LAST_PRINTABLE and not chr(byte).isalnum()
