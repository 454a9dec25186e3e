"""Descriptions of PIV cards in the configuration: what such a card can't do stops the portal, by line and word."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from portal import config as configuration
from portal.config import ConfigError
from portal.encoding import command, piv_rules
from portal.encoding.binding import bind
from portal.encoding.parser import load, parse
from portal.encoding.piv_rules import Part
from portal.encoding.problems import CAUSES, EncodingError
from portal.encoding.rules import Usage
from portal.processes import card_descriptions
from portal.processes.card_descriptions import BUILT_IN, CardDescription
from tests.support.piv_descriptions import EXAMPLES, FILES, example

ENTRY = "PIN=!FROM_USER_DIALOG_2_FIELD"
PAD, AUTO = "!FROM_PROTECTED_AUTHENTICATION_PATH", "!FROM_PROTECTED_AUTHENTICATION_PATH_AUTO"
_WHOLE = "\n[Description]\n"
_FIRST = "[Application_1_Authentication]\n"
_REFUSED: dict[str, tuple[Part, str, str, str, str]] = {
    # what a PIV card, or Inlay's way with it, doesn't know
    "a minidriver": (Part.ENCODE, _WHOLE, f"{_WHOLE}MiniDriverLibrary=x\n", "piv_cant", "MiniDriverLibrary"),
    "erasing": (
        Part.ENCODE,
        _WHOLE,
        f"{_WHOLE}InitToken=true\nInitialLabel=#Card\n",
        "piv_cant",
        "InitToken",
    ),
    "a label": (Part.ENCODE, _WHOLE, f"{_WHOLE}InitialLabel=#Card\n", "piv_cant", "InitialLabel"),
    "blocking": (Part.ENCODE, _WHOLE, f"{_WHOLE}BlockCard=true\n", "piv_cant", "BlockCard"),
    "a management key": (Part.ENCODE, _WHOLE, f"{_WHOLE}CardManagerKey=PUK\n", "piv_cant", "CardManagerKey"),
    "a second PUK": (Part.ENCODE, _WHOLE, f"{_WHOLE}PUK=PUK\n", "piv_cant", "PUK"),
    "another choice of the card": (
        Part.ENCODE,
        _WHOLE,
        f"{_WHOLE}UseSelectCriteriaIccsn=true\nSelectCriteriaIccsn=PUK\n",
        "piv_cant",
        "UseSelectCriteriaIccsn",
    ),
    "an object that is a certificate alone": (
        Part.ENCODE,
        _FIRST,
        f"{_FIRST}WriteCertificate=true\nCertificate=PUK\n",
        "piv_cant",
        "WriteCertificate",
    ),
    "certificates with their keys": (
        Part.ENCODE,
        _FIRST,
        f"{_FIRST}WriteCertKeyList=true\nCertKeyList=PUK\n",
        "piv_cant",
        "WriteCertKeyList",
    ),
    # keys
    "two certificates in one slot": (Part.ENCODE, "=#9E", "=#9A", "slot_twice", "9A"),
    "a new certificate in a retired slot": (Part.ENCODE, "=#9E", "=#83", "piv_retired", "83"),
    "an earlier key in a slot in use": (Part.ENCODE, "=#82", "=#9C", "piv_recovery_place", "9C"),
    "an encryption key where keys sign": (Part.ENCODE, "=#9D", "=#9C", "piv_key_use", "9C"),
    "a signing key where keys decrypt": (Part.ENCODE, "=#9A", "=#9D", "piv_key_use", "9D"),
    "a signing key of the archive": (
        Part.ENCODE,
        "=#9A\nKeyAlgorithm=#P-256\nKeySource=#generate",
        "=#9A\nKeyAlgorithm=#P-256\nKeySource=#import",
        "piv_import",
        "9A",
    ),
    "a signature without the PIN for each": (
        Part.ENCODE,
        "KeyReference=#9C\n",
        "KeyReference=#9C\nKeyPINPolicy=#once\n",
        "piv_weaker_pin",
        "9C",
    ),
    "an authentication without the PIN": (
        Part.ISSUE,
        "KeyReference=#9A\n",
        "KeyReference=#9A\nKeyPINPolicy=#never\n",
        "piv_weaker_pin",
        "9A",
    ),
    "an earlier key that anybody can use": (
        Part.ENCODE,
        "KeyReference=#82\n",
        "KeyReference=#82\nKeyPINPolicy=#never\n",
        "piv_weaker_pin",
        "82",
    ),
    "a PIN policy that no key has": (
        Part.ENCODE,
        _FIRST,
        f"{_FIRST}KeyPINPolicy=#sometimes\n",
        "bad_value",
        "#sometimes",
    ),
    "a touch policy that no key has": (
        Part.ENCODE,
        _FIRST,
        f"{_FIRST}KeyTouchPolicy=#once\n",
        "bad_value",
        "#once",
    ),
    "a policy of no key": (
        Part.ENCODE,
        _FIRST,
        "[Application_0]\nKeyTouchPolicy=#always\n" + _FIRST,
        "missing_keyword",
        "KeyTouchPolicy",
    ),
    "a key that nobody has had": (
        Part.ENCODE,
        "=#9A\nKeyAlgorithm=#P-256\nKeySource=#generate",
        "=#9A\nKeyAlgorithm=#P-256\nKeySource=#keep",
        "piv_nothing_kept",
        "9A",
    ),
    "an application that orders nothing": (
        Part.ENCODE,
        _FIRST,
        "[Application_0]\nKeyReference=#9C\n" + _FIRST,
        "orders_nothing",
        "Application_0",
    ),
    # data objects
    **{
        f"the object {tag}": (
            Part.ENCODE,
            _FIRST,
            f"[Application_0]\nObjectReference=#{tag}\nObjectContent=#00\n{_FIRST}",
            "piv_object_kept",
            tag,
        )
        for tag in ("5FC102", "5FC105", "5FC10C", "7E", "7F61", "5FC103", "5FC1AA", "5FFF00", "5FFF10")
    },
    "an object's tag that is none": (
        Part.ENCODE,
        _FIRST,
        f"[Application_0]\nObjectReference=#5fc109\nObjectContent=#00\n{_FIRST}",
        "bad_value",
        "#5fc109",
    ),
    "content that isn't hexadecimal": (
        Part.ENCODE,
        _FIRST,
        f"[Application_0]\nObjectReference=#5F0001\nObjectContent=#0\n{_FIRST}",
        "bad_value",
        "#0",
    ),
    "content and text": (
        Part.ENCODE,
        _FIRST,
        f"[Application_0]\nObjectReference=#5F0001\nObjectContent=#00\nObjectText=#x\n{_FIRST}",
        "piv_object_content",
        "Application_0",
    ),
    "neither content nor text": (
        Part.ENCODE,
        _FIRST,
        f"[Application_0]\nObjectReference=#5F0001\n{_FIRST}",
        "piv_object_content",
        "Application_0",
    ),
    "text for no object": (
        Part.ENCODE,
        _FIRST,
        f"[Application_0]\nObjectText=#x\n{_FIRST}",
        "missing_keyword",
        "ObjectText",
    ),
    "a key and an object": (
        Part.ENCODE,
        _FIRST,
        f"{_FIRST}ObjectReference=#5F0001\nObjectText=#x\n",
        "piv_object_key",
        "KeyReference",
    ),
    "one object twice": (
        Part.ENCODE,
        _FIRST,
        "".join(f"[Application_0{each}]\nObjectReference=#5F0001\nObjectText=#x\n" for each in "AB") + _FIRST,
        "piv_object_twice",
        "5F0001",
    ),
    "an object in the description of a PIN": (
        Part.VERIFY_PIN,
        f"PIN={AUTO}",
        f"PIN={AUTO}\n[Application_A]\nObjectReference=#5F0001\nObjectText=#x",
        "piv_pin_only",
        "Application_A",
    ),
    # PIN and PUK
    "no PIN": (Part.ENCODE, f"SetPIN=true\nInitialPUK=PUK\n{ENTRY}\n", "", "piv_pin_missing", "PIN"),
    "the PUK itself": (
        Part.ENCODE,
        "InitialPUK=PUK",
        "InitialPUK=#12345678",
        "piv_puk_literal",
        "InitialPUK",
    ),
    "one PIN for all": (Part.ENCODE, ENTRY, "PIN=#123456", "piv_first_pin", "#…"),
    "a first PIN at the keys alone": (Part.ENCODE, ENTRY, f"PIN={PAD}", "piv_first_pin", PAD),
    "a first PIN that is drawn": (Part.ENCODE, ENTRY, "PIN=PUK", "piv_first_pin", "PUK"),
    "a first PIN without the PUK": (
        Part.ENCODE,
        f"InitialPUK=PUK\n{ENTRY}",
        "PIN=!FROM_USER_DIALOG_3_FIELD",
        "piv_first_pin",
        "!FROM_USER_DIALOG_3_FIELD",
    ),
    "a PIN of the holder's when the card is issued": (
        Part.ISSUE,
        "PIN=PIN",
        ENTRY,
        "first_pin_of_portal",
        "!FROM_USER_DIALOG_2_FIELD",
    ),
    "an issued card's PIN without the PUK": (
        Part.ISSUE,
        "InitialPUK=PUK\n",
        "",
        "first_pin_of_portal",
        "PIN",
    ),
    "a new PIN for a card that is extended": (
        Part.EXTEND,
        f"PIN={AUTO}",
        "SetPIN=true\nPIN=!FROM_USER_DIALOG_3_FIELD",
        "piv_pin_stays",
        "!FROM_USER_DIALOG_3_FIELD",
    ),
    "a PIN that the portal hasn't": (
        Part.EXTEND,
        f"PIN={AUTO}",
        "PIN=WITH_SIGNATURE",
        "piv_pin_stays",
        "WITH_SIGNATURE",
    ),
    "a change that changes nothing": (
        Part.CHANGE_PIN,
        "SetPIN=true\n",
        "",
        "piv_pin_changed",
        PAD,
    ),
    "an unblocking without the PUK": (
        Part.UNBLOCK_PIN,
        "InitialPUK=PUK\n",
        "",
        "piv_pin_unblocked",
        AUTO,
    ),
    "a check that sets a PIN": (Part.VERIFY_PIN, "PIN=", "SetPIN=true\nPIN=", "piv_pin_stays", AUTO),
    "a key in the description of a PIN": (
        Part.VERIFY_PIN,
        f"PIN={AUTO}",
        f"PIN={AUTO}\n[Application_A]\nKeyReference=#9A\nKeyAlgorithm=#P-256\nCertificateTemplate=#authentication",
        "piv_pin_only",
        "Application_A",
    ),
    # of every description
    "an unknown keyword": (
        Part.ENCODE,
        _FIRST,
        f"{_FIRST}PinPolicy=always\n",
        "unknown_keyword",
        "PinPolicy",
    ),
    "an unknown slot": (Part.ENCODE, "=#9E", "=#9F", "bad_value", "#9F"),
    "an algorithm that no card has": (Part.ENCODE, "=#RSA-2048", "=#RSA-512", "bad_value", "#RSA-512"),
    "an undeclared field": (Part.ENCODE, "OnlyIf=WITH_SIGNATURE", "OnlyIf=WITH", "undeclared_field", "WITH"),
    "another word for a PIN": (
        Part.ENCODE,
        ENTRY,
        "PIN=!FROM_INPUT_TWICE",
        "bad_value",
        "!FROM_INPUT_TWICE",
    ),
}

_ELSEWHERE = {
    "piv_pin_missing": "[Description]",
    "piv_import": "KeySource=#import",
    "piv_weaker_pin": "KeyPINPolicy=#",
    "piv_nothing_kept": "KeySource=#keep",
}
"""Causes whose line isn't that of their word."""


def configured(folder: Path, name: str = "Staff card", **described: Any) -> dict[str, CardDescription]:
    """The card descriptions of a configuration in this folder."""
    value = {
        "origin": "https://portal.test",
        "name": "Portal",
        "database": "sqlite+aiosqlite:///portal.db",
        "key_file": "keys",
        "card_descriptions": {name: described},
    }
    (folder / "config.json").write_text(json.dumps(value))
    return configuration.load(folder / "config.json").described_cards()


def read(part: Part, path: Path, fields: dict[str, str] | None = None) -> None:
    card_descriptions.of_piv(part, path, fields or {})


def changed(folder: Path, part: Part, old: str, new: str) -> Path:
    """A file with the example of a part, and one place of it written otherwise."""
    text = example(part)
    assert text.count(old) >= 1
    path = folder / FILES[part]
    path.write_text(text.replace(old, new, 1))
    return path


@pytest.mark.parametrize("why", _REFUSED)
def test_what_a_piv_card_can_not_do_is_refused_by_line_and_word(tmp_path: Path, why: str) -> None:
    part, old, new, code, word = _REFUSED[why]
    path = changed(tmp_path, part, old, new)
    with pytest.raises(EncodingError) as error:
        read(part, path)
    (found,) = [item for item in error.value.problems if (item.code, item.word) == (code, word)]
    lines = path.read_text().splitlines()
    shown = _ELSEWHERE.get(code, word.removeprefix("#").removesuffix("…"))
    assert shown in lines[found.line - 1]
    assert "123456" not in str(error.value)  # neither PIN nor PUK is repeated


def test_a_label_is_refused_with_what_stands_in_its_place(tmp_path: Path) -> None:
    path = changed(tmp_path, Part.ENCODE, _WHOLE, f"{_WHOLE}InitialLabel=#Card\n")
    with pytest.raises(EncodingError, match=r"no place for a label.*certificate of 9A.*ObjectReference"):
        read(Part.ENCODE, path)


def test_each_cause_has_a_sentence_of_its_own_and_a_test() -> None:
    ours = {code: CAUSES[code] for code in CAUSES if code.startswith("piv_")}
    assert len(set(ours.values())) == len(ours)
    at_order = {"piv_no_key_to_keep", "piv_portals_puk", "piv_objects_many"}
    assert ours.keys() - at_order <= {row[3] for row in _REFUSED.values()}


def test_a_description_without_applications_makes_nothing(tmp_path: Path) -> None:
    text = example(Part.ENCODE)
    path = tmp_path / "encode.dsc"
    path.write_text(text[: text.index("# always, whatever")])
    with pytest.raises(EncodingError, match=r"has no \[Application_X\]"):
        read(Part.ENCODE, path)


@pytest.mark.parametrize(
    ("part", "keyword", "old"),
    [
        (Part.ENCODE, "InitialPUK", "InitialPUK=PUK"),
        (Part.UNBLOCK_PIN, "InitialPUK", "InitialPUK=PUK"),
        (Part.ISSUE, "PIN", "\nPIN=PIN"),
    ],
)
def test_puk_and_pin_are_those_of_the_card_and_of_no_other_variable(
    tmp_path: Path, part: Part, keyword: str, old: str
) -> None:
    path = changed(tmp_path, part, old, f"{old.partition('=')[0]}=OTHER")
    path.write_text(path.read_text().replace("[Fields]\n", "[Fields]\nOTHER=\n"))
    with pytest.raises(EncodingError, match=rf"{keyword} is that of the card, \$\{{card\}}"):
        read(part, path, {"OTHER": "${label}"})
    read(part, path, {"OTHER": "${card}"})


def test_a_relation_that_is_always_made_needs_a_card(tmp_path: Path) -> None:
    path = changed(tmp_path, Part.EXTEND, _FIRST, f"{_FIRST}CreateObjectRelation=always\n")
    read(Part.EXTEND, path)  # there is always a card
    mapping = {name: f"${{{name.lower()}}}" for name in load(path).fields}
    with pytest.raises(EncodingError, match="CreateObjectRelation=always can't be kept") as error:
        bind(load(path), Usage.OPERATION_WITHOUT_CARD, mapping)
    (found,) = error.value.problems
    assert path.read_text().splitlines()[found.line - 1] == "CreateObjectRelation=always"


@pytest.mark.parametrize(
    ("slot", "template", "source", "recovers", "code"),
    [
        ("9A", "authentication", "generate", False, None),
        ("9D", "encryption", "import", False, None),
        ("82", "encryption", "import", True, None),
        ("", "encryption", "import", False, None),
        ("9C", "encryption", "generate", False, "piv_key_use"),
        ("9D", "signature", "generate", False, "piv_key_use"),
        ("9E", "authentication", "import_if_possible", False, "piv_import"),
        ("95", "encryption", "import", False, "piv_retired"),
        ("9D", "encryption", "import", True, "piv_recovery_place"),
    ],
)
def test_what_a_variable_brings_is_checked_by_the_same_rules(
    slot: str, template: str, source: str, recovers: bool, code: str | None
) -> None:
    assert piv_rules.of_key(slot, template, source, recovers=recovers) == code


@pytest.mark.parametrize(
    ("slot", "pin", "may"),
    [
        ("9A", "once", True),
        ("9A", "always", True),
        ("9A", "never", False),
        ("9C", "always", True),
        ("9C", "once", False),
        ("9D", "never", False),
        ("9E", "never", True),
        ("9E", "always", True),
        ("82", "never", False),
        ("", "never", True),
        ("9A", "", True),
    ],
)
def test_no_key_asks_for_the_pin_less_often_than_the_standard_has_it(slot: str, pin: str, may: bool) -> None:
    assert piv_rules.of_policy(slot, pin) is may


# --- the configuration


def test_the_examples_are_what_the_documents_say(tmp_path: Path) -> None:
    files = {part.value: str(EXAMPLES / name) for part, name in FILES.items()}
    found = configured(tmp_path, **files)["Staff card"]
    assert (found.driver, found.puk, set(found.parts)) == ("piv", None, set(Part))


@pytest.mark.parametrize("part", Part)
def test_one_part_is_enough_and_what_is_not_described_ships(tmp_path: Path, part: Part) -> None:
    found = configured(tmp_path, **{part.value: str(EXAMPLES / FILES[part])})["Staff card"]
    assert set(found.parts) == {part}
    assert all(found.makes(each) for each in Part)


def test_nothing_described_is_no_kind_of_card(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one of issue, encode, extend, change_pin") as caught:
        configured(tmp_path)
    assert caught.value.where == "card_descriptions: Staff card"


def test_a_fault_stops_the_portal_by_file_and_line(tmp_path: Path) -> None:
    path = changed(tmp_path, Part.ISSUE, "=#9E", "=#9A")
    with pytest.raises(ConfigError, match="The key 9A is used by two applications") as caught:
        configured(tmp_path, issue=path.name)
    assert caught.value.where == str(path)
    assert f"line {parse(path.read_text()).applications[1].line_of('KeyReference')}: " in str(caught.value)


def test_with_a_puk_of_its_own_a_card_is_one_that_pkcs11_makes(tmp_path: Path) -> None:
    (tmp_path / "puk").write_text("12345678\n")
    (tmp_path / "puk").chmod(0o600)
    with pytest.raises(ConfigError, match="needs PKCS11Library"):
        configured(tmp_path, puk_file="puk", issue=str(EXAMPLES / FILES[Part.ISSUE]))
    with pytest.raises(ConfigError, match=r"PKCS11Library does not go with a PIV card.*puk_file"):
        configured(tmp_path, issue=str(EXAMPLES / "token-issue.dsc"))
    token = str(EXAMPLES / "token-issue.dsc")
    with pytest.raises(ConfigError, match="verify_pin is for PIV cards"):
        configured(tmp_path, puk_file="puk", issue=token, verify_pin=str(EXAMPLES / FILES[Part.VERIFY_PIN]))


def test_the_name_of_all_other_piv_cards_is_theirs(tmp_path: Path) -> None:
    extend = str(EXAMPLES / FILES[Part.EXTEND])
    assert configured(tmp_path, BUILT_IN, extend=extend)[BUILT_IN].driver == "piv"
    assert card_descriptions.option([BUILT_IN]) == ()  # nobody is asked for it
    (option,) = card_descriptions.option([BUILT_IN, "Staff card"])
    assert option.choices == (BUILT_IN, "Staff card")


def test_the_command_names_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = changed(tmp_path, Part.ENCODE, "=#9E", "=#9A")
    configured(tmp_path, encode=str(EXAMPLES / FILES[Part.ENCODE]))
    config = configuration.load(tmp_path / "config.json")
    asked = argparse.Namespace(files=[path], usage=None, piv="encode")
    assert command.run(config, asked) == 1
    line = load(path).applications[1].line_of("KeyReference")
    assert capsys.readouterr().out == f"{path}:{line}: The key 9A is used by two applications.\n"
    asked.piv = None  # of some card
    assert command.run(config, asked) == 0
