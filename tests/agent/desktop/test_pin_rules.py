"""The rules for a new PIN."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.pin_rules import ImpossiblePolicy, PinRules, check_pin, effective_maximum, keeps_rules, plain_rules
from protocol.messages import PinPolicy, Presence

PRESENCES = st.sampled_from(["ALLOWED", "DISALLOWED", "REQUIRED"])
RULES = st.builds(
    PinRules,
    min_length=st.integers(4, 15),
    max_length=st.integers(4, 15),
    upper=PRESENCES,
    lower=PRESENCES,
    digits=PRESENCES,
    special=PRESENCES,
    agent_only=st.booleans(),
)


DIGITS = PinRules(upper="DISALLOWED", lower="DISALLOWED", special="DISALLOWED")


def broken(rules: PinRules, pin: bytes) -> set[str]:
    return {rule.rule_id for rule in check_pin(rules, pin) if not rule.satisfied}


@pytest.mark.parametrize(
    ("rules", "pin", "expected"),
    [
        (PinRules(), b"", {"length"}),
        (PinRules(), b"12345", {"length"}),
        (PinRules(), b"123456789", {"length"}),
        (PinRules(), "pässwo".encode(), {"printable"}),
        (PinRules(), b"1234\t56", {"printable"}),
        (PinRules(), b"1234\x7f56", {"printable"}),
        (PinRules(upper="REQUIRED"), b"abc123", {"upper"}),
        (PinRules(lower="REQUIRED"), b"ABC123", {"lower"}),
        (PinRules(digits="REQUIRED"), b"abcdef", {"digits"}),
        (PinRules(special="REQUIRED"), b"abc123", {"special"}),
        (PinRules(upper="DISALLOWED"), b"Abc123", {"upper"}),
        (PinRules(lower="DISALLOWED"), b"aBC123", {"lower"}),
        (PinRules(digits="DISALLOWED"), b"abcde1", {"digits"}),
        (PinRules(special="DISALLOWED"), b"abc 123", {"special"}),
        (PinRules(max_length=15), b"123456789", {"length"}),
        (DIGITS, b"12345a", {"digits"}),
        (DIGITS, b"1234\xc3\xa4", {"digits"}),
        (DIGITS, b"12345", {"length"}),
        (DIGITS, b"123456", set()),
        (PinRules(), b"123456", set()),
        (PinRules(), b" ~AZaz09", set()),
        (PinRules(max_length=15, agent_only=True), b"123456789012345", set()),
    ],
)
def test_a_pin_breaks_exactly_the_rules_it_breaks(rules: PinRules, pin: bytes, expected: set[str]) -> None:
    assert broken(rules, pin) == expected


def test_of_digits_alone_one_line_says_so() -> None:
    """Four that forbid one kind of character each would be read as four rules, one against the other."""
    assert [rule.text for rule in check_pin(DIGITS, b"")] == ["6 to 8 digits", "No letters and no signs"]


def test_a_character_outside_ascii_counts_in_bytes() -> None:
    assert "length" in broken(PinRules(), "äöüäö".encode())  # 5 characters, 10 bytes


def test_the_policy_of_the_protocol_is_taken_as_it_is() -> None:
    policy = PinPolicy(min_length=7, max_length=12, digits=Presence.REQUIRED, lower=Presence.DISALLOWED)
    rules = plain_rules(policy)
    assert rules == PinRules(7, 12, digits="REQUIRED", lower="DISALLOWED")
    assert effective_maximum(rules) == 8


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        (PinRules(min_length=9, max_length=12), "length"),
        (PinRules(min_length=8, max_length=7), "length"),
        (PinRules(min_length=0), "length"),
        (PinRules(upper="SOMETIMES"), "presence"),
        (PinRules(6, 8, "DISALLOWED", "DISALLOWED", "DISALLOWED", "DISALLOWED"), "classes"),
        (PinRules(1, 3, "REQUIRED", "REQUIRED", "REQUIRED", "REQUIRED"), "classes"),
    ],
)
def test_a_policy_that_no_pin_can_keep_is_refused(rules: PinRules, reason: str) -> None:
    with pytest.raises(ImpossiblePolicy) as caught:
        plain_rules(rules)
    assert caught.value.reason == reason
    assert caught.value.code == "pin_policy_unsatisfiable"


@given(RULES, st.binary(max_size=20))
def test_no_accepted_pin_is_one_a_card_would_cut_or_refuse(rules: PinRules, pin: bytes) -> None:
    if keeps_rules(rules, pin):
        assert len(pin) <= (rules.max_length if rules.agent_only else 8)
        assert all(0x20 <= byte <= 0x7E for byte in pin)


@given(RULES)
def test_every_policy_that_is_accepted_has_a_pin(rules: PinRules) -> None:
    try:
        plain_rules(rules)
    except ImpossiblePolicy:
        return
    kinds = {"upper": "A", "lower": "a", "digits": "1", "special": "#"}
    wanted = [sign for kind, sign in kinds.items() if getattr(rules, kind) == "REQUIRED"]
    filler = next(sign for kind, sign in kinds.items() if getattr(rules, kind) != "DISALLOWED")
    pin = "".join(wanted).ljust(rules.min_length, filler).encode()
    assert keeps_rules(rules, pin)


@given(st.text(string.printable, max_size=10))
def test_every_rule_keeps_its_name_and_order_while_typing(pin: str) -> None:
    rules = PinRules(upper="REQUIRED", digits="DISALLOWED")
    names = [rule.rule_id for rule in check_pin(rules, pin.encode())]
    assert names == ["length", "printable", "upper", "digits"]
