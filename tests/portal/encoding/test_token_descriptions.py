"""A description with PKCS11Library: what PKCS#11 can't do is refused when it is read, by line, word and cause."""

from __future__ import annotations

from typing import Any

import pytest

from portal.encoding.binding import Driver, bind, plan
from portal.encoding.parser import parse
from portal.encoding.problems import CAUSES, EncodingError
from portal.encoding.rules import Usage
from portal.model.objects import CoreObject, ObjectKind

TOKEN = """\
[Encoding]
[Fields]
PUK_FIELD=
SOURCE=
KEY=
[Description]
PKCS11Library=vendor
SetPIN=true
InitialPUK=PUK_FIELD
PIN=!FROM_USER_DIALOG_2_FIELD
[Application_A]
KeyReference=#9A
KeyAlgorithm=#P-256
CertificateTemplate=#authentication
[Application_B]
KeyReference=KEY
KeyAlgorithm=#RSA-2048
KeySource=SOURCE
CertificateTemplate=#encryption
"""
_SET = "SetPIN=true\nInitialPUK=PUK_FIELD\nPIN=!FROM_USER_DIALOG_2_FIELD"
_ERASES = "InitToken=true\nInitialLabel=#Card\n"
_WRONG = {
    "a path": ("=vendor", "=/usr/lib/vendor.so", "bad_value", 7, "/usr/lib/vendor.so"),
    "a second driver": ("PIN=!", "MiniDriverLibrary=x\nPIN=!", "two_libraries", 10, "MiniDriverLibrary"),
    "a management key": (
        "PIN=!",
        "CardManagerKey=KEY\nPIN=!",
        "token_management_key",
        10,
        "CardManagerKey",
    ),
    "blocking": ("PIN=!", "BlockCard=true\nPIN=!", "token_block", 10, "BlockCard"),
    "a label for a card that isn't erased": (
        "PIN=!",
        "InitialLabel=#Card\nPIN=!",
        "token_label",
        10,
        "InitialLabel",
    ),
    "an erased card without a PIN": (
        _SET,
        f"{_ERASES}InitialPUK=PUK_FIELD\nPIN=!FROM_USER_DIALOG_1_FIELD",
        "token_erased",
        8,
        "InitToken",
    ),
    "erasing without the PUK": (
        "SetPIN=true\nInitialPUK=PUK_FIELD",
        f"{_ERASES}SetPIN=true",
        "token_puk_missing",
        8,
        "InitToken",
    ),
    "a new PIN without the PUK": (
        "InitialPUK=PUK_FIELD\nPIN=!FROM_USER_DIALOG_2_FIELD",
        "PIN=!FROM_USER_DIALOG_3_FIELD",
        "token_puk_missing",
        8,
        "SetPIN",
    ),
    "the PUK itself": ("=PUK_FIELD", "=#87654321", "token_puk_literal", 9, "InitialPUK"),
    "no PIN": (_SET, "", "token_pin_missing", 7, "PIN"),
    "one PIN for all": ("PIN=!FROM_USER_DIALOG_2_FIELD", "PIN=#1234", "token_pin_entry", 10, "#…"),
    "a PIN that the portal doesn't have": (_SET, "PIN=KEY", "token_pin_entry", 8, "KEY"),
    "a PIN that is changed": (
        "_DIALOG_2_",
        "_DIALOG_3_",
        "token_pin_entry",
        10,
        "!FROM_USER_DIALOG_3_FIELD",
    ),
    "a new PIN at the pad": (
        "!FROM_USER_DIALOG_2_FIELD",
        "!FROM_PROTECTED_AUTHENTICATION_PATH",
        "token_pin_entry",
        10,
        "!FROM_PROTECTED_AUTHENTICATION_PATH",
    ),
    "the key without a PIN": ("#9A", "#9E", "token_key_without_pin", 12, "9E"),
    "a signing key from the archive": ("#9A\n", "#9A\nKeySource=#import\n", "token_import", 13, "9A"),
    "a key that was erased": (
        "SetPIN=true\nInitialPUK=PUK_FIELD\nPIN=!FROM_USER_DIALOG_2_FIELD\n[Application_A]\nKeyReference=#9A\n",
        f"{_ERASES}{_SET}\n[Application_A]\nKeyReference=#9A\nKeySource=#keep\n",
        "token_erased_key",
        15,
        "9A",
    ),
    "the PUK of other operations": ("PIN=!", "PUK=PUK_FIELD\nPIN=!", "token_cant", 10, "PUK"),
    "another choice of the card": (
        "PIN=!",
        "UseSelectCriteriaIccsn=true\nSelectCriteriaIccsn=KEY\nPIN=!",
        "token_cant",
        10,
        "UseSelectCriteriaIccsn",
    ),
    "reading all numbers": (
        "PIN=!",
        "RetrieveAllTokens=true\nAllTokensIccsnsField=KEY\nPIN=!",
        "token_cant",
        10,
        "RetrieveAllTokens",
    ),
    "a key's PIN policy": (
        "[Application_B]",
        "[Application_B]\nKeyReference=#9C\nKeyPINPolicy=#always",
        "token_cant",
        17,
        "KeyPINPolicy",
    ),
    "a key's touch policy": (
        "[Application_B]",
        "[Application_B]\nKeyReference=#9C\nKeyTouchPolicy=#always",
        "token_cant",
        17,
        "KeyTouchPolicy",
    ),
    "a data object": (
        "[Application_B]",
        "[Application_B]\nObjectReference=#5F0001\nObjectText=#x",
        "token_cant",
        16,
        "ObjectReference",
    ),
    "a certificate without its key": (
        "[Application_B]",
        "[Application_B]\nWriteCertificate=true\nCertificate=KEY",
        "token_cant",
        16,
        "WriteCertificate",
    ),
    "certificates with their keys": (
        "[Application_B]",
        "[Application_B]\nWriteCertKeyList=true\nCertKeyList=KEY",
        "token_cant",
        16,
        "WriteCertKeyList",
    ),
}
MAPPING = {"PUK_FIELD": "${card}", "SOURCE": "${source}", "KEY": "${key}"}
VARIABLES: dict[str, Any] = {"card": CoreObject(ObjectKind.CARD, "k"), "source": "import", "key": "9D"}


def codes(error: pytest.ExceptionInfo[EncodingError]) -> set[tuple[str, int, str]]:
    return {(item.code, item.line, item.word) for item in error.value.problems}


@pytest.mark.parametrize("why", _WRONG)
def test_what_does_not_go_with_pkcs11_is_refused_by_line_and_word(why: str) -> None:
    old, new, code, line, word = _WRONG[why]
    assert TOKEN.count(old) == 1
    with pytest.raises(EncodingError) as error:
        parse(TOKEN.replace(old, new))
    assert (code, line, word) in codes(error)


@pytest.mark.parametrize("secret", ["87654321", "1234"])
def test_a_secret_that_stands_in_a_description_is_not_repeated(secret: str) -> None:
    text = TOKEN.replace("=PUK_FIELD", f"=#{secret}").replace("!FROM_USER_DIALOG_2_FIELD", f"#{secret}")
    with pytest.raises(EncodingError) as error:
        parse(text)
    assert secret not in str(error.value)


def test_each_cause_has_a_sentence_of_its_own() -> None:
    ours = {code: CAUSES[code] for code in CAUSES if code.startswith("token_")}
    assert len(set(ours.values())) == len(ours)
    assert ours.keys() <= {row[2] for row in _WRONG.values()}


def test_without_the_keyword_the_rules_are_those_of_other_cards() -> None:
    text = TOKEN.replace("PKCS11Library=vendor\n", "").replace("#9A", "#9E")
    assert parse(text).driver == "piv"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"key": "9C"}, ("token_import", 16, "9C")),
        ({"key": "9E", "source": "generate"}, ("token_key_without_pin", 16, "9E")),
    ],
)
def test_what_a_variable_brings_is_checked_as_what_is_written(
    changes: dict[str, str], expected: tuple[str, int, str]
) -> None:
    encoding = bind(parse(TOKEN), Usage.PRODUCTION, MAPPING)
    with pytest.raises(EncodingError) as error:
        plan(encoding, VARIABLES | changes, driver="pkcs11")
    assert codes(error) == {expected}


def test_a_key_is_not_kept_on_a_card_that_is_erased() -> None:
    text = TOKEN.replace("SetPIN=true", f"{_ERASES}SetPIN=true")
    encoding = bind(parse(text), Usage.PRODUCTION, MAPPING)
    with pytest.raises(EncodingError) as error:
        plan(encoding, VARIABLES | {"source": "keep"}, driver="pkcs11")
    assert codes(error) == {("token_erased_key", 18, "9D")}


@pytest.mark.parametrize(("driver", "kind"), [("virtual", "virtual smart card"), ("piv", "PIV card")])
def test_another_card_is_not_made_by_it(driver: Driver, kind: str) -> None:
    with pytest.raises(EncodingError, match=f"PKCS11Library can't be done with this kind of card .{kind}."):
        plan(bind(parse(TOKEN), Usage.PRODUCTION, MAPPING), VARIABLES, driver=driver)


def test_a_token_is_not_made_by_the_description_of_another_card() -> None:
    encoding = bind(parse(TOKEN.replace("PKCS11Library=vendor\n", "")), Usage.PRODUCTION, MAPPING)
    with pytest.raises(EncodingError) as error:
        plan(encoding, VARIABLES, driver="pkcs11")
    assert codes(error) == {("library_missing", 6, "Description")}


def test_a_plan_of_a_token() -> None:
    text = TOKEN.replace("SetPIN=true", f"{_ERASES}SetPIN=true")
    made = plan(bind(parse(text), Usage.PRODUCTION, MAPPING), VARIABLES, driver="pkcs11")
    assert (made.initialise, made.label, made.set_pin, made.pin, made.puk) == (
        True,
        "Card",
        True,
        "new",
        "card",
    )
    assert [(item.slot, item.source) for item in made.certificates] == [("9A", "generate"), ("9D", "import")]


def test_the_portal_may_draw_the_pin_of_a_card_that_is_erased() -> None:
    text = TOKEN.replace("SetPIN=true", f"{_ERASES}SetPIN=true").replace(
        "!FROM_USER_DIALOG_2_FIELD", "PUK_FIELD"
    )
    made = plan(bind(parse(text), Usage.PRODUCTION, MAPPING), VARIABLES, driver="pkcs11")
    assert (made.pin, made.initialise) == ("given", True)
