"""The reference is what the table of keywords gives."""

from __future__ import annotations

import pytest

from portal.encoding import reference
from portal.encoding.keywords import TABLE

_MISSION = [
    "PKCS11Library",
    "MiniDriverLibrary",
    "InitToken",
    "InitialPUK",
    "InitialLabel",
    "SetPIN",
    "PIN",
    "PUK",
    "ClearFields",
    "CardManagerKey",
    "RetrieveAllTokens",
    "AllTokensIccsnsField",
    "UseICCSNwithATR",
    "UseSelectCriteriaIccsn",
    "SelectCriteriaIccsn",
    "WriteCertificate",
    "Certificate",
    "WriteCertKeyList",
    "CertKeyList",
    "BlockCard",
    "revokeOnIssue",
    "CreateObjectRelation",
    "ObjectRelationType",
    "CertCoreObjectDescriptorReturnField",
]


def test_the_reference_is_not_out_of_date() -> None:
    assert reference.PATH.read_text(encoding="utf-8") == reference.page()


def test_every_keyword_stands_in_the_reference_once() -> None:
    page = reference.page()
    assert all(page.count(f"\n| `{name}` |") == 1 for name in TABLE)


@pytest.mark.parametrize("name", _MISSION)
def test_every_documented_keyword_is_known(name: str) -> None:
    assert TABLE[name].origin.value == "N"


def test_what_a_keyword_needs_stands_in_the_same_section() -> None:
    for row in TABLE.values():
        assert all(TABLE[name].section is row.section for name in row.needs)
