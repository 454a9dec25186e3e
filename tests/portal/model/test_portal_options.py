"""Options are refused field by field, with a sentence for each, before anything is saved."""

from __future__ import annotations

import pytest

from portal.errors import FieldErrors
from portal.model.options import OptionValue, fill
from portal.model.virtual_card_options import SCRIPT, VirtualCardOptions
from protocol.messages import KeySource, PinPolicy, StorageLevel

_CLASSES = ("PINUpperCase", "PINLowerCase", "PINDigits", "PINSpecial")
_WRONG: list[tuple[str, dict[str, list[str]], str]] = [
    ("unknown option", {"Nonsense": ["1"]}, "Nonsense"),
    ("no certificate", {"Certificates": []}, "Certificates"),
    ("unknown certificate", {"Certificates": ["authentication", "coffee"]}, "Certificates"),
    ("unknown algorithm", {"SignatureAlgorithm": ["RSA-512"]}, "SignatureAlgorithm"),
    ("validity of no days", {"ValidityDays": ["0"]}, "ValidityDays"),
    ("validity in words", {"ValidityDays": ["two years"]}, "ValidityDays"),
    ("validity too long", {"ValidityDays": ["99999"]}, "ValidityDays"),
    ("validity negative", {"ValidityDays": ["-1"]}, "ValidityDays"),
    ("validity missing", {"ValidityDays": []}, "ValidityDays"),
    ("empty profile name", {"ProfileName": [""]}, "ProfileName"),
    ("unknown placeholder", {"ProfileName": ["Card ${secret}"]}, "ProfileName"),
    ("stray dollar", {"ProfileName": ["5 $ card"]}, "ProfileName"),
    ("control character", {"ServerName": ["a\x00b"]}, "ServerName"),
    ("text too long", {"UserId": ["x" * 151]}, "UserId"),
    ("minimum over 8", {"PINMinLength": ["9"], "PINMaxLength": ["12"]}, "PINMinLength"),
    ("minimum over maximum", {"PINMinLength": ["8"], "PINMaxLength": ["7"]}, "PINMaxLength"),
    ("nothing allowed", {name: ["DISALLOWED"] for name in _CLASSES}, "PINDigits"),
    ("unknown presence", {"PINDigits": ["MAYBE"]}, "PINDigits"),
    ("no storage level", {"StorageLevels": []}, "StorageLevels"),
    ("unknown storage level", {"StorageLevels": ["paper"]}, "StorageLevels"),
    ("unknown PUK handling", {"PUKHandling": ["post"]}, "PUKHandling"),
    ("no time to resume", {"ResumeMinutes": ["0"]}, "ResumeMinutes"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "field"), [case[1:] for case in _WRONG], ids=[case[0] for case in _WRONG]
)
def test_refused(changes: dict[str, list[str]], field: str) -> None:
    """The error stands at its field."""
    with pytest.raises(FieldErrors) as caught:
        SCRIPT.parse({**SCRIPT.as_form(SCRIPT.defaults()), **changes})
    assert set(caught.value.errors) == {field}
    assert caught.value.errors[field].endswith(".")


def test_all_errors_at_once() -> None:
    """A person gets every field that is wrong, not the first."""
    form = {**SCRIPT.as_form(SCRIPT.defaults()), "ValidityDays": ["x"], "PINDigits": ["x"], "UserId": [""]}
    with pytest.raises(FieldErrors) as caught:
        SCRIPT.parse(form)
    assert set(caught.value.errors) == {"ValidityDays", "PINDigits", "UserId"}


@pytest.mark.parametrize("value", ["yes", 1, None, ["True"]])
def test_stored_values_of_a_wrong_type(value: OptionValue) -> None:
    """What the database holds is checked as well."""
    with pytest.raises(FieldErrors):
        VirtualCardOptions({"AgentOnlyPIN": value})


def test_required_kinds_must_fit() -> None:
    """Four required kinds need four characters; the shortest maximum is six, so they fit."""
    VirtualCardOptions(dict.fromkeys(_CLASSES, "REQUIRED"))


def test_long_pins_need_the_agent_only_option() -> None:
    """With the option they are saved, with a warning."""
    values = SCRIPT.check({"PINMinLength": 10, "PINMaxLength": 12, "AgentOnlyPIN": True})
    assert VirtualCardOptions(values).pin_policy.agent_only
    assert set(SCRIPT.warn(values)) == {"AgentOnlyPIN"}


def test_defaults_are_the_mission_s() -> None:
    """Valid as installed; the form and back gives the same."""
    defaults = SCRIPT.defaults()
    assert SCRIPT.check(defaults) == defaults
    assert SCRIPT.parse(SCRIPT.as_form(defaults)) == defaults
    options = VirtualCardOptions(defaults)
    assert options.validity_seconds == 730 * 86_400
    assert options.template("ProfileName") == "Virtual smart card ${email}"
    assert options.template("UserId") == "${email}"
    assert [key.slot for key in options.keys] == ["9A", "9C", "9D"]
    assert [key.source for key in options.keys] == [KeySource.GENERATE, KeySource.GENERATE, KeySource.IMPORT]
    assert options.pin_policy == PinPolicy(min_length=6, max_length=15)
    assert options.storage == [StorageLevel.TPM, StorageLevel.KEYSTORE]
    assert (options.puk, options.resume_within) == ("escrow", 3600)
    assert all(option.title and option.meaning for option in SCRIPT.options)


def test_templates_are_filled_and_bounded() -> None:
    """A long name doesn't make a label that no order can carry."""
    assert fill("Card of ${name} at $$", {"name": "Ada", "email": "", "portal": ""}) == "Card of Ada at $"
    assert len(fill("${name}", {"name": "x" * 300, "email": "", "portal": ""})) == 200
