"""Options of cards, temporary cards and mobile IDs: what is refused, at its field, and the documented defaults."""

from __future__ import annotations

import pytest

from portal import option_store
from portal.errors import FieldErrors
from portal.model.card_options import CARDS_SCRIPT, MOBILE_IDS_SCRIPT, TEMPORARY_CARDS_SCRIPT
from portal.model.options import Option, Script

_DAYS = "TempCardsEmailBeforeExpiringDays"
_WRONG: list[tuple[Script, dict[str, list[str]], str]] = [
    (CARDS_SCRIPT, {"CardsPINLength": ["9"]}, "CardsPINLength"),
    (CARDS_SCRIPT, {"CardsPUKLength": ["5"]}, "CardsPUKLength"),
    (CARDS_SCRIPT, {"CardsPINDelivery": ["pigeon"]}, "CardsPINDelivery"),
    (CARDS_SCRIPT, {"CardsPINDelivery": ["nopin"], "CardsPUKDelivery": ["nopuk"]}, "CardsPUKDelivery"),
    (CARDS_SCRIPT, {"CardsRecoverEncryption": ["true"]}, "CardsRecoverEncryption"),
    (TEMPORARY_CARDS_SCRIPT, {"TempCardsRecoverEncryption": [""]}, "TempCardsRecoverEncryption"),
    (TEMPORARY_CARDS_SCRIPT, {"TempCardsValidityDays": ["0"]}, "TempCardsValidityDays"),
    (TEMPORARY_CARDS_SCRIPT, {"TempCardsCertificates": []}, "TempCardsCertificates"),
    (TEMPORARY_CARDS_SCRIPT, {_DAYS: []}, _DAYS),
    (TEMPORARY_CARDS_SCRIPT, {_DAYS: ["soon"]}, _DAYS),
    (TEMPORARY_CARDS_SCRIPT, {_DAYS: ["7; 3"]}, _DAYS),
    (TEMPORARY_CARDS_SCRIPT, {_DAYS: ["7.5"]}, _DAYS),
    (TEMPORARY_CARDS_SCRIPT, {_DAYS: ["\u0667"]}, _DAYS),
    (TEMPORARY_CARDS_SCRIPT, {_DAYS: ["366"]}, _DAYS),
    (TEMPORARY_CARDS_SCRIPT, {_DAYS: ["11,10,9,8,7,6,5,4,3,2,1"]}, _DAYS),
    (MOBILE_IDS_SCRIPT, {"MobileIDNotify": ["maybe"]}, "MobileIDNotify"),
    (MOBILE_IDS_SCRIPT, {"MobileIDProfileName": ["${secret}"]}, "MobileIDProfileName"),
    (
        MOBILE_IDS_SCRIPT,
        {"MobileIDCertificates": ["signature"], "MobileIDRecoverEncryption": ["true"]},
        "MobileIDRecoverEncryption",
    ),
]


@pytest.mark.parametrize(("script", "changes", "field"), _WRONG)
def test_refused(script: Script, changes: dict[str, list[str]], field: str) -> None:
    with pytest.raises(FieldErrors) as caught:
        script.parse({**script.as_form(script.defaults()), **changes})
    assert set(caught.value.errors) == {field}
    assert caught.value.errors[field].endswith(".")


@pytest.mark.parametrize(
    "value", [[], ["3", "7"], ["7", "7"], ["07"], ["x"], "7", 7, ["7"] * 11, ["-1"], ["1e3"]]
)
def test_stored_numbers_of_a_wrong_form(value: list[str] | str | int) -> None:
    with pytest.raises(FieldErrors):
        TEMPORARY_CARDS_SCRIPT.check({_DAYS: value})


def test_numbers_are_sorted_and_each_stands_once() -> None:
    option = Option("days", "Days", "Which.", "numbers", ["1"], low=1, high=99)
    assert option.parse(["3 14,7, 07"]) == ["14", "7", "3"]
    assert option.parse(["3", "14"]) == ["14", "3"]


@pytest.mark.parametrize("script", option_store.SCRIPTS.values(), ids=option_store.SCRIPTS)
def test_every_script_is_valid_as_installed_and_its_form_gives_the_same(script: Script) -> None:
    defaults = script.defaults()
    assert script.check(defaults) == defaults
    assert script.parse(script.as_form(defaults)) == defaults
    assert all(option.title and option.meaning.endswith((".", "!")) for option in script.options)


def test_the_documented_defaults() -> None:
    cards, temporary, mobile = (
        script.defaults() for script in (CARDS_SCRIPT, TEMPORARY_CARDS_SCRIPT, MOBILE_IDS_SCRIPT)
    )
    assert (cards["CardsPINLength"], cards["CardsPUKLength"]) == (6, 8)
    assert (cards["CardsPUKDelivery"], cards["CardsMultipleActive"]) == ("nopuk", False)
    assert (temporary["TempCardsValidityDays"], temporary[_DAYS]) == (14, ["7", "3"])
    assert temporary["TempCardsOnePerUser"] is True
    assert mobile["MobileIDEmailBeforeExpiringDays"] == ["60", "30", "14", "7"]
    assert (mobile["MobileIDQRInPortal"], mobile["MobileIDValidityDays"]) == (True, 730)
    assert CARDS_SCRIPT.warn(CARDS_SCRIPT.parse({**CARDS_SCRIPT.as_form(cards)})) == {}
