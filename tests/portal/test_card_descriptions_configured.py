"""Card descriptions in the configuration: what can't be kept stops the portal, by file, line and cause."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from portal import config as configuration
from portal.config import ConfigError
from portal.encoding import command
from portal.encoding.piv_rules import Part
from portal.processes import card_descriptions
from portal.processes.card_descriptions import CardDescription

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
PUK = "so-pin-87654321"
FILES = {"puk_file": "puk", "issue": "issue.dsc", "encode": "encode.dsc", "extend": "extend.dsc"}


def read(folder: Path, name: str = "Vendor token", **changes: Any) -> CardDescription:
    """The one description of a configuration whose files are the documents' examples."""
    for word in ("issue", "encode", "extend"):
        path = folder / f"{word}.dsc"
        if not path.exists():
            path.write_text((EXAMPLES / f"token-{word}.dsc").read_text())
    if not (folder / "puk").exists():
        write_puk(folder)
    described = {key: value for key, value in {**FILES, **changes}.items() if value is not None}
    value = {
        "origin": "https://portal.test",
        "name": "Portal",
        "database": "sqlite+aiosqlite:///portal.db",
        "key_file": "keys",
        "card_descriptions": {name: described},
    }
    (folder / "config.json").write_text(json.dumps(value))
    return configuration.load(folder / "config.json").described_cards()[name]


def write_puk(folder: Path, puk: str = PUK, mode: int = 0o600) -> None:
    (folder / "puk").write_text(puk + "\n")
    (folder / "puk").chmod(mode)


def changed(folder: Path, word: str, old: str, new: str) -> None:
    text = (EXAMPLES / f"token-{word}.dsc").read_text()
    assert old in text
    (folder / f"{word}.dsc").write_text(text.replace(old, new))


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_puk_that_others_may_read_is_none(tmp_path: Path, mode: int) -> None:
    write_puk(tmp_path, mode=mode)
    with pytest.raises(ConfigError, match="chmod 600") as caught:
        read(tmp_path)
    assert caught.value.where == str(tmp_path / "puk")


@pytest.mark.parametrize("puk", ["", "123", "x" * 65])
def test_a_puk_of_a_length_that_no_token_has(tmp_path: Path, puk: str) -> None:
    write_puk(tmp_path, puk)
    with pytest.raises(ConfigError, match="4 to 64 characters"):
        read(tmp_path)


@pytest.mark.parametrize("word", ["puk", "issue.dsc"])
def test_a_file_that_is_missing_is_named(tmp_path: Path, word: str) -> None:
    read(tmp_path)
    renamed = {"puk": {"puk_file": "other"}, "issue.dsc": {"issue": "other"}}[word]
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, **renamed)
    assert caught.value.where == str(tmp_path / "other")


@pytest.mark.parametrize("name", ["PIV card", "two\nlines"])
def test_a_name_that_is_taken_or_is_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="a name on one line"):
        read(tmp_path, name)


@pytest.mark.parametrize(
    "left_out", [{"extend"}, {"encode"}, {"issue", "encode", "extend"}, {"issue", "extend"}]
)
def test_half_of_what_a_kind_of_card_needs_is_not_enough(tmp_path: Path, left_out: set[str]) -> None:
    missing: dict[str, Any] = dict.fromkeys(left_out)
    with pytest.raises(ConfigError, match="issue is needed, or encode and extend"):
        read(tmp_path, **missing)


@pytest.mark.parametrize(
    ("word", "old", "new", "said"),
    [
        ("issue", "PKCS11Library=vendor\n", "", "needs PKCS11Library"),
        ("issue", "PIN=PIN\n", "PIN=!FROM_USER_DIALOG_2_FIELD\n", "the portal draws the PIN"),
        ("encode", "PIN=!FROM_USER_DIALOG_2_FIELD", "PIN=PUK", "the holder chooses the PIN"),
        (
            "encode",
            "PIN=!FROM_USER_DIALOG_2_FIELD",
            "PIN=!FROM_PROTECTED_AUTHENTICATION_PATH_AUTO",
            "the holder chooses the PIN",
        ),
        (
            "encode",
            "InitToken=true\nInitialLabel=LABEL\nSetPIN=true\nInitialPUK=PUK\nPIN=!FROM_USER_DIALOG_2_FIELD",
            "PIN=!FROM_USER_DIALOG_1_FIELD",
            "the holder chooses the PIN",
        ),
        (
            "extend",
            "[Fields]\n",
            "[Fields]\nPUK=\n",
            "the PIN of a card that is extended stays",
        ),
        (
            "issue",
            "InitToken=true",
            "BlockCard=true\nInitToken=true",
            "BlockCard=true does not go with PKCS11Library",
        ),
        ("issue", "PUK=\n", "PUK=\nOTHER=\n", "OTHER is read and has to be mapped"),
    ],
)
def test_what_a_description_can_not_be_for_is_told_by_line(
    tmp_path: Path, word: str, old: str, new: str, said: str
) -> None:
    changed(tmp_path, word, old, new)
    path = tmp_path / f"{word}.dsc"
    if said.startswith("the PIN of a card that is extended"):
        entry = "PIN=!FROM_USER_DIALOG_1_FIELD"
        fresh = "SetPIN=true\nInitialPUK=PUK\nPIN=!FROM_USER_DIALOG_2_FIELD"
        path.write_text(path.read_text().replace(entry, fresh))
    if said.startswith("OTHER"):
        path.write_text(path.read_text().replace("KeyReference=#9A", "KeyReference=OTHER"))
    with pytest.raises(ConfigError, match=said) as caught:
        read(tmp_path)
    assert caught.value.where == str(path)
    assert PUK not in str(caught.value)


def test_a_description_without_applications_makes_nothing(tmp_path: Path) -> None:
    text = (EXAMPLES / "token-issue.dsc").read_text()
    (tmp_path / "issue.dsc").write_text(text[: text.index("[Application_1")])
    with pytest.raises(ConfigError, match=r"has no \[Application_X\]"):
        read(tmp_path)


def test_a_field_is_bound_to_a_variable_that_the_process_has(tmp_path: Path) -> None:
    changed(tmp_path, "issue", "PUK=\n", "PUK=\nSLOT=\n")
    path = tmp_path / "issue.dsc"
    path.write_text(path.read_text().replace("KeyReference=#9A", "KeyReference=SLOT"))
    with pytest.raises(ConfigError, match="the variables of this process are"):
        read(tmp_path, fields={"SLOT": "${nothing}"})


def test_the_examples_are_what_the_documents_say(tmp_path: Path) -> None:
    found = read(tmp_path)
    assert (found.name, found.puk) == ("Vendor token", PUK.encode())
    assert set(found.parts) == {Part.ISSUE, Part.ENCODE, Part.EXTEND}
    assert PUK not in repr(found)


def test_a_field_of_its_own_name_may_be_bound(tmp_path: Path) -> None:
    changed(tmp_path, "issue", "LABEL", "NAME_OF_CARD")
    found = read(tmp_path, fields={"NAME_OF_CARD": "${label}"})
    assert found.parts[Part.ISSUE].variables["NAME_OF_CARD"] == "label"


def test_staff_are_asked_only_where_there_is_a_choice() -> None:
    assert card_descriptions.option([]) == ()
    (option,) = card_descriptions.option(["Vendor token"])
    assert (option.choices, option.default) == (("PIV card", "Vendor token"), "PIV card")


def test_the_command_checks_what_is_configured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read(tmp_path)
    config = configuration.load(tmp_path / "config.json")
    asked = argparse.Namespace(files=[], usage=None, piv=None)
    assert command.run(config, asked) == 0
    assert capsys.readouterr().out == "card_descriptions: no problem found; kinds of cards: 1\n"
    changed(tmp_path, "extend", "PKCS11Library=vendor\n", "")
    with pytest.raises(ConfigError, match="needs PKCS11Library"):
        command.run(config, asked)
