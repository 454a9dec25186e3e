"""Encoding descriptions are refused by line and word; any text gives a description or named problems."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.encoding import rules
from portal.encoding.description import FieldRef, PinWord, Text
from portal.encoding.keywords import TABLE
from portal.encoding.parser import MAX_CHARACTERS, MAX_LINES, load, parse
from portal.encoding.problems import CAUSES, EncodingError, Problem
from portal.encoding.rules import Usage

if TYPE_CHECKING:
    from pathlib import Path

SAMPLE = """\
# The sample with two applications
[Encoding]
Type=1024,Chip
[Fields]
PUK_FIELD=
GeneratedCertApp_A=
[Description]
SetPIN=true
InitialPUK=PUK_FIELD
PIN=!FROM_USER_DIALOG_2_FIELD
[Application_A]
CreateObjectRelation=always
ObjectRelationType=HAS_A
CertCoreObjectDescriptorReturnField=GeneratedCertApp_A
[Application_B]
"""
_WRONG = {
    "an unknown keyword": ("SetPIN=true", "SetPins=true", "unknown_keyword", 8, "SetPins"),
    "a keyword's case": ("SetPIN=true", "SETPIN=true", "unknown_keyword", 8, "SETPIN"),
    "an undeclared field": ("InitialPUK=PUK_FIELD", "InitialPUK=PUK", "undeclared_field", 9, "PUK"),
    "an undeclared return field": (
        "GeneratedCertApp_A=\n",
        "Another=\n",
        "undeclared_field",
        14,
        "GeneratedCertApp_A",
    ),
    "a missing [Encoding]": ("[Encoding]\nType=1024,Chip\n", "", "missing_section", 0, "Encoding"),
    "a missing [Fields]": (
        "[Fields]\nPUK_FIELD=\nGeneratedCertApp_A=\n",
        "",
        "missing_section",
        0,
        "Fields",
    ),
    "a missing [Description]": (
        "[Description]\nSetPIN=true\nInitialPUK=PUK_FIELD\nPIN=!FROM_USER_DIALOG_2_FIELD\n",
        "",
        "missing_section",
        0,
        "Description",
    ),
    "a section twice": ("[Application_B]", "[Application_A]", "duplicate_section", 15, "Application_A"),
    "an unknown section": ("[Application_B]", "[Applications]", "unknown_section", 15, "Applications"),
    "an application without a name": (
        "[Application_B]",
        "[Application_]",
        "unknown_section",
        15,
        "Application_",
    ),
    "a keyword twice": ("SetPIN=true", "SetPIN=true\nSetPIN=true", "duplicate_keyword", 9, "SetPIN"),
    "a field twice": ("PUK_FIELD=\n", "PUK_FIELD=\nPUK_FIELD=\n", "duplicate_keyword", 6, "PUK_FIELD"),
    "a field's name": ("PUK_FIELD=\n", "PUK_FIELD=\n1ST=\n", "bad_field_name", 6, "1ST"),
    "a field with a value": ("PUK_FIELD=\n", "PUK_FIELD=12345678\n", "field_with_value", 5, "PUK_FIELD"),
    "a flag": ("SetPIN=true", "SetPIN=yes", "bad_value", 8, "yes"),
    "a word": ("=always", "=sometimes", "bad_value", 12, "sometimes"),
    "a name with a space": ("=HAS_A", "=HAS A", "bad_value", 13, "HAS A"),
    "a type": ("Type=1024,Chip", "Type=Chip", "bad_value", 3, "Chip"),
    "an empty value": ("InitialPUK=PUK_FIELD", "InitialPUK=", "bad_value", 9, ""),
    "an empty literal": ("InitialPUK=PUK_FIELD", "InitialPUK=#", "bad_value", 9, "#"),
    "a PIN entry that isn't one": ("_DIALOG_2_", "_DIALOG_4_", "bad_value", 10, "!FROM_USER_DIALOG_4_FIELD"),
    "a PIN entry where none belongs": (
        "InitialPUK=PUK_FIELD",
        "InitialPUK=!FROM_USER_DIALOG_1_FIELD",
        "bad_value",
        9,
        "!FROM_USER_DIALOG_1_FIELD",
    ),
    "a keyword in the wrong section": (
        "SetPIN=true",
        "SetPIN=true\nKeyReference=#9A",
        "wrong_section",
        9,
        "KeyReference",
    ),
    "a keyword that needs another": (
        "PIN=!FROM_USER_DIALOG_2_FIELD\n",
        "InitToken=true\nPIN=!FROM_USER_DIALOG_2_FIELD\n",
        "missing_keyword",
        10,
        "InitToken",
    ),
    "SetPIN without PIN": ("PIN=!FROM_USER_DIALOG_2_FIELD\n", "", "missing_keyword", 8, "SetPIN"),
    "a new PIN that is typed once": (
        "_DIALOG_2_",
        "_DIALOG_1_",
        "pin_entry_misfit",
        10,
        "!FROM_USER_DIALOG_1_FIELD",
    ),
    "a new PIN that nothing sets": (
        "SetPIN=true",
        "SetPIN=false",
        "pin_entry_misfit",
        10,
        "!FROM_USER_DIALOG_2_FIELD",
    ),
    "a new PIN without what lets it be set": (
        "InitialPUK=PUK_FIELD\n",
        "",
        "pin_entry_misfit",
        9,
        "!FROM_USER_DIALOG_2_FIELD",
    ),
    "a line that is none": ("SetPIN=true", "SetPIN", "not_a_line", 8, "SetPIN"),
    "a comment behind a semicolon": ("# The sample", "; The sample", "not_a_line", 1, None),
    "a slot that isn't one": (
        "[Application_B]",
        "[Application_B]\nKeyReference=#99\nKeyAlgorithm=#P-256",
        "bad_value",
        16,
        "#99",
    ),
    "an algorithm that isn't one": (
        "[Application_B]",
        "[Application_B]\nKeyReference=#9A\nKeyAlgorithm=#RSA-512",
        "bad_value",
        17,
        "#RSA-512",
    ),
    "a template without a key": (
        "[Application_B]",
        "[Application_B]\nCertificateTemplate=#signature",
        "missing_keyword",
        16,
        "CertificateTemplate",
    ),
    "revokeOnIssue without a request": (
        "[Application_B]",
        "[Application_B]\nrevokeOnIssue=true",
        "missing_keyword",
        16,
        "revokeOnIssue",
    ),
    "all cards' numbers beside something else": (
        "SetPIN=true",
        "RetrieveAllTokens=true\nAllTokensIccsnsField=PUK_FIELD\nSetPIN=true",
        "not_alone",
        10,
        "RetrieveAllTokens",
    ),
}


def problems_of(text: str) -> tuple[Problem, ...]:
    """What is wrong with a text; none when it is a description."""
    try:
        parse(text)
    except EncodingError as error:
        return error.problems
    return ()


@pytest.mark.parametrize("what", _WRONG)
def test_each_problem_has_its_line_and_word(what: str) -> None:
    old, new, code, line, word = _WRONG[what]
    assert old in SAMPLE
    found = problems_of(SAMPLE.replace(old, new, 1))
    at = [item for item in found if (item.code, item.line) == (code, line)]
    assert at, found
    assert word is None or at[0].word == word
    assert word is None or word in at[0].sentence


def test_every_problem_is_told_not_only_the_first() -> None:
    text = SAMPLE.replace("Type=1024,Chip", "Typ=1024,Chip").replace("=HAS_A", "=HAS A")
    assert [item.line for item in problems_of(text)] == [3, 13]


def test_a_keyword_that_is_almost_right_is_named() -> None:
    (found,) = problems_of(SAMPLE.replace("ObjectRelationType", "ObjectRelationtype"))
    assert found.sentence == "The keyword ObjectRelationtype is not known. Perhaps ObjectRelationType?"
    assert str(found).startswith("line 13: ")


def test_always_is_refused_in_an_operation_that_may_run_without_a_card() -> None:
    with pytest.raises(EncodingError, match="line 12: CreateObjectRelation=always"):
        rules.check(parse(SAMPLE), Usage.OPERATION_WITHOUT_CARD)
    rules.check(parse(SAMPLE), Usage.OPERATION)
    rules.check(parse(SAMPLE), Usage.PRODUCTION)


def test_all_cards_numbers_and_an_application_are_two_operations() -> None:
    text = (
        "[Encoding]\n[Fields]\nN=\n[Description]\nRetrieveAllTokens=true\nAllTokensIccsnsField=N\n"
        "UseICCSNwithATR=true\n"
    )
    rules.check(parse(text), Usage.OPERATION_WITHOUT_CARD)
    with pytest.raises(EncodingError, match="line 5: RetrieveAllTokens is an operation by itself"):
        rules.check(parse(text + "[Application_A]\n"), Usage.OPERATION)


@pytest.mark.parametrize("text", ["x" * (MAX_CHARACTERS + 1), "\n" * MAX_LINES])
def test_a_text_that_is_too_long_is_not_read(text: str) -> None:
    (found,) = problems_of(text)
    assert found.code == "too_long"


def test_a_file_that_is_no_text_is_refused_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "x.dsc"
    file.write_bytes(SAMPLE.encode().replace(b"SetPIN=true", b"SetPIN=\xff"))
    with pytest.raises(EncodingError) as caught:
        load(file)
    assert [(item.code, item.line) for item in caught.value.problems] == [("not_text", 8)]


def test_a_file_may_begin_with_a_byte_order_mark_and_end_its_lines_as_windows_does(tmp_path: Path) -> None:
    file = tmp_path / "x.dsc"
    file.write_bytes(b"\xef\xbb\xbf" + SAMPLE.replace("\n", "\r\n").encode())
    assert load(file) == parse(SAMPLE)


def test_the_sample_is_read() -> None:
    found = parse(SAMPLE)
    assert list(found.fields) == ["PUK_FIELD", "GeneratedCertApp_A"]
    assert found.encoding.text("Type") == "1024,Chip"
    assert found.description.value("InitialPUK") == FieldRef("PUK_FIELD")
    assert found.description.value("PIN") == PinWord("new")
    first, second = found.applications
    assert (first.name, first.relation, first.text("ObjectRelationType")) == (
        "Application_A",
        "always",
        "HAS_A",
    )
    assert (second.name, second.relation, second.text("ObjectRelationType")) == (
        "Application_B",
        "success",
        None,
    )


def test_applications_are_ordered_by_their_names_not_by_their_place() -> None:
    text = SAMPLE.replace("[Application_A]", "[Application_C]")
    assert [section.name for section in parse(text).applications] == ["Application_B", "Application_C"]


def test_white_space_comments_and_literals() -> None:
    text = SAMPLE.replace("InitialPUK=PUK_FIELD", "  # one\n\tInitialPUK = #a = #b \n#two")
    assert parse(text).description.value("InitialPUK") == Text("a = #b")


_WORDS = st.sampled_from(
    [
        *TABLE,
        *SAMPLE.split("\n"),
        "[Encoding]",
        "[Fields]",
        "[Description]",
        "[Application_Z]",
        "=",
        "#",
        "\r",
        "true",
        "!",
    ]
)


@given(st.text() | st.lists(_WORDS | st.text(max_size=8), max_size=60).map("\n".join))
def test_any_text_is_a_description_or_named_problems(text: str) -> None:
    for item in problems_of(text):
        assert item.code in CAUSES
        assert 0 <= item.line <= text.count("\n") + text.count("\r") + 1
        assert str(item).isprintable()
    if not problems_of(text):
        found = parse(text)
        for section in found.sections:
            assert section.settings.keys() <= TABLE.keys()
            names = [
                item.value.name for item in section.settings.values() if isinstance(item.value, FieldRef)
            ]
            assert set(names) <= set(found.fields)


@given(st.integers(0, len(SAMPLE)), st.text(max_size=4), st.integers(0, 6))
def test_the_sample_with_a_spot_changed_is_a_description_or_named_problems(
    at: int, new: str, cut: int
) -> None:
    for item in problems_of(SAMPLE[:at] + new + SAMPLE[at + cut :]):
        assert item.code in CAUSES
