"""Fields are bound to process variables; what they hold is checked again before a plan is made of it."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from portal.encoding import plan as plans
from portal.encoding.binding import Encoding, Recoverable, bind, plan
from portal.encoding.keywords import RETIRED
from portal.encoding.parser import parse
from portal.encoding.plan import PlannedCertificate, TaskKind
from portal.encoding.problems import EncodingError
from portal.encoding.rules import Usage
from portal.model.objects import CoreObject, ObjectKind

DESCRIPTION = """\
[Encoding]
[Fields]
WITH_A=
ALGORITHM=
OLD=
NEW_CERT=
PUK_FIELD=
[Description]
SetPIN=true
InitialPUK=PUK_FIELD
PIN=!FROM_USER_DIALOG_2_FIELD
ClearFields=true
[Application_A]
OnlyIf=WITH_A
KeyReference=#9A
KeyAlgorithm=ALGORITHM
CertificateTemplate=#authentication
CreateObjectRelation=always
ObjectRelationType=HAS_A
CertCoreObjectDescriptorReturnField=NEW_CERT
revokeOnIssue=true
[Application_B]
KeyReference=#9D
RecoverCertificate=OLD
CertCoreObjectDescriptorReturnField=NEW_CERT
"""
MAPPING = {
    "WITH_A": "${withA}",
    "ALGORITHM": "${algorithm}",
    "OLD": "${old}",
    "NEW_CERT": "${generated}",
    "PUK_FIELD": "${card}",
}
OLD = [CoreObject(ObjectKind.CERTIFICATE, f"c{number}") for number in range(3)]
VARIABLES: dict[str, Any] = {
    "withA": True,
    "algorithm": "P-256",
    "old": OLD,
    "card": CoreObject(ObjectKind.CARD, "k"),
}
KNOWN = {f"c{number}": Recoverable("encryption", "RSA-2048") for number in range(30)}


def encoding(text: str = DESCRIPTION, **changes: str) -> Encoding:
    """The description, bound."""
    return bind(parse(text), Usage.OPERATION, MAPPING | changes)


def codes(error: pytest.ExceptionInfo[EncodingError]) -> list[tuple[str, int, str]]:
    """What was wrong."""
    return [(item.code, item.line, item.word) for item in error.value.problems]


def without(name: str) -> dict[str, str]:
    """The mapping without one field."""
    return {key: value for key, value in MAPPING.items() if key != name}


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        (without("NEW_CERT"), [("return_field_unmapped", 20, "NEW_CERT"), ("return_field_unmapped", 25, "NEW_CERT")]),
        (without("ALGORITHM"), [("field_unmapped", 16, "ALGORITHM")]),
        (MAPPING | {"OTHER": "${x}"}, [("undeclared_field", 0, "OTHER")]),
        (MAPPING | {"OLD": "old"}, [("bad_mapping", 0, "old")]),
        (MAPPING | {"OLD": "${old} "}, [("bad_mapping", 0, "${old} ")]),
        (MAPPING | {"OLD": "${a.b}"}, [("bad_mapping", 0, "${a.b}")]),
    ],
)  # fmt: skip
def test_a_wrong_mapping_is_refused_when_it_is_set_up(
    mapping: dict[str, str], expected: list[tuple[str, int, str]]
) -> None:
    with pytest.raises(EncodingError) as error:
        bind(parse(DESCRIPTION), Usage.OPERATION, mapping)
    assert codes(error) == expected


def test_binding_checks_the_usage() -> None:
    with pytest.raises(EncodingError, match="CreateObjectRelation=always can't be kept"):
        bind(parse(DESCRIPTION), Usage.OPERATION_WITHOUT_CARD, MAPPING)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"algorithm": None}, ("variable_missing", 16, "algorithm")),
        ({"algorithm": "RSA-512"}, ("bad_value", 16, "RSA-512")),
        ({"algorithm": 5}, ("bad_value", 16, "5")),
        ({"withA": "perhaps"}, ("bad_value", 14, "perhaps")),
        ({"withA": None}, ("variable_missing", 14, "withA")),
        ({"old": []}, ("variable_missing", 24, "old")),
        ({"old": "c1"}, ("bad_value", 24, "None")),
        ({"old": [CoreObject(ObjectKind.CARD, "c1")]}, ("bad_value", 24, "None")),
        ({"old": [CoreObject(ObjectKind.CERTIFICATE, "elsewhere")]}, ("bad_value", 24, "elsewhere")),
        (
            {"old": [CoreObject(ObjectKind.CERTIFICATE, f"c{n}") for n in range(22)]},
            ("no_slot_left", 24, "Application_B"),
        ),
    ],
)
def test_a_variable_that_a_keyword_cannot_take_stops_the_task_before_it_begins(
    changes: dict[str, Any], expected: tuple[str, int, str]
) -> None:
    with pytest.raises(EncodingError) as error:
        plan(encoding(), VARIABLES | changes, KNOWN)
    assert expected in codes(error)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("KeyReference=#9D", "KeyReference=#9A", ("slot_twice", 23, "9A")),
        ("KeyReference=#9D\nRecoverCertificate=OLD\n", "", ("orders_nothing", 22, "Application_B")),
        ("SetPIN=true", "PKCS11Library=vendor\nSetPIN=true", ("not_for_this_card", 9, "PKCS11Library")),
        (
            "!FROM_USER_DIALOG_2_FIELD",
            "!FROM_PROTECTED_AUTHENTICATION_PATH",
            ("not_for_this_card", 11, "!FROM_PROTECTED_AUTHENTICATION_PATH"),
        ),
        ("!FROM_USER_DIALOG_2_FIELD", "#123456", ("not_for_this_card", 11, "#123456")),
        (
            "[Application_B]",
            "[Application_B]\nWriteCertificate=true\nCertificate=OLD",
            ("not_for_this_card", 23, "WriteCertificate"),
        ),
    ],
)
def test_what_cannot_be_done_with_a_virtual_card_is_refused_by_name(
    old: str, new: str, expected: tuple[str, int, str]
) -> None:
    assert old in DESCRIPTION
    with pytest.raises(EncodingError) as error:
        plan(encoding(DESCRIPTION.replace(old, new)), VARIABLES, KNOWN)
    assert expected in codes(error)


def test_a_plan() -> None:
    made = plan(encoding(), VARIABLES, KNOWN)
    assert made.kind is TaskKind.OPERATION
    assert (made.pin, made.set_pin, made.puk, made.initialise, made.block) == (
        "new",
        True,
        "card",
        False,
        False,
    )
    assert made.clear == ("algorithm", "card", "old", "withA")
    assert made.requested == (
        PlannedCertificate(
            application="Application_A",
            slot="9A",
            template="authentication",
            algorithm="P-256",
            source="generate",
            relation="always",
            relation_type="HAS_A",
            return_variable="generated",
            hold=True,
        ),
    )
    assert [(item.slot, item.recovers, item.source) for item in made.recovered] == [
        ("9D", "c0", "import"),
        ("82", "c1", "import"),
        ("83", "c2", "import"),
    ]
    # CertCoreObjectDescriptorReturnField has no effect on a recovery
    assert [item.return_variable for item in made.recovered] == [None, None, None]


def test_an_application_may_be_left_out() -> None:
    made = plan(encoding(), VARIABLES | {"withA": False, "algorithm": None}, KNOWN)
    assert made.requested == ()


def test_a_plan_survives_being_stored() -> None:
    import json

    made = plan(encoding(), VARIABLES, KNOWN)
    assert plans.restored(json.loads(json.dumps(plans.stored(made)))) == made


def test_a_card_has_twenty_retired_keys() -> None:
    assert (len(RETIRED), RETIRED[0], RETIRED[-1]) == (20, "82", "95")


@pytest.mark.parametrize(
    ("driver", "source"), [("virtual", "import"), ("pkcs11", "import"), ("piv", "import_if_possible")]
)
def test_only_a_piv_card_is_asked_whether_it_takes_a_key(
    driver: Literal["virtual", "piv", "pkcs11"], source: str
) -> None:
    library = "PKCS11Library=Maker\n" if driver == "pkcs11" else ""
    text = (
        f"[Encoding]\n[Fields]\n[Description]\n{library}PIN=!FROM_USER_DIALOG_1_FIELD\n[Application_A]\n"
        "KeyReference=#9D\nKeyAlgorithm=#P-256\nKeySource=#import_if_possible\nCertificateTemplate=#encryption\n"
    )
    made = plan(bind(parse(text), Usage.OPERATION, {}), {}, driver=driver)
    assert [item.source for item in made.certificates] == [source]


def test_recovered_keys_leave_out_places_that_other_applications_name() -> None:
    text = (
        "[Encoding]\n[Fields]\nOLD=\n[Description]\nPIN=!FROM_USER_DIALOG_1_FIELD\n"
        "[Application_A]\nKeyReference=#85\nRecoverCertificate=OLD\n"
        "[Application_B]\nKeyReference=#83\nRecoverCertificate=OLD\n"
    )
    made = plan(bind(parse(text), Usage.OPERATION, {"OLD": "${old}"}), {"old": OLD}, KNOWN, driver="piv")
    assert [item.slot for item in made.recovered] == ["85", "82", "84", "83", "86", "87"]


@pytest.mark.parametrize(
    ("slot", "source", "expected"),
    [
        ("82", "generate", ("piv_retired", 7, "82")),
        ("9C", "generate", ("piv_key_use", 7, "9C")),
        ("9D", "generate", None),
    ],
)
def test_what_a_variable_brings_to_a_piv_card_is_checked(
    slot: str, source: str, expected: tuple[str, int, str] | None
) -> None:
    text = (
        "[Encoding]\n[Fields]\nSLOT=\nSOURCE=\n[Description]\n[Application_A]\nKeyReference=SLOT\n"
        "KeyAlgorithm=#P-256\nKeySource=SOURCE\nCertificateTemplate=#encryption\n"
    )
    bound = bind(parse(text), Usage.OPERATION, {"SLOT": "${slot}", "SOURCE": "${source}"})
    variables = {"slot": slot, "source": source}
    if expected is None:
        assert plan(bound, variables, driver="piv").of_slot(slot) is not None
        return
    with pytest.raises(EncodingError) as error:
        plan(bound, variables, driver="piv")
    assert codes(error) == [expected]
