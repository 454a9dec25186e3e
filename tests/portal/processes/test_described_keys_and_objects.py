"""Policies of keys and data objects of PIV cards, as descriptions have them and the portal orders them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from portal.encoding.piv_rules import Part
from portal.processes.assign_temporary_card import AssignTemporaryCard
from portal.processes.withdraw_temporary_card import WithdrawTemporaryCard
from portal.store.tables import Card, Order
from portal.views import ObjectRef
from protocol.messages import DataObject, EncodeCard
from tests.portal.processes.test_piv_descriptions import ENCODING, changed, unfit, wanted
from tests.support.databases import BACKENDS
from tests.support.extended_cards import EXTEND, ada, assigned, encoded, olga, step
from tests.support.piv_descriptions import configure

if TYPE_CHECKING:
    from pathlib import Path

    from portal.views import Session
    from tests.support.portal_kit import Kit

__all__ = ["ada", "olga"]
pytestmark = pytest.mark.parametrize("backend", BACKENDS[:1], indirect=True)


# --- when keys ask for the PIN and for a touch

POLICIES = (
    ("KeyReference=#9A\n", "KeyReference=#9A\nKeyPINPolicy=#always\nKeyTouchPolicy=#cached\n"),
    ("KeyReference=#9E\n", "KeyReference=#9E\nKeyPINPolicy=#never\n"),
    ("KeyReference=#9D\n", "KeyReference=#9D\nKeyTouchPolicy=#always\n"),
)


async def test_a_policy_that_a_variable_brings_is_checked_by_the_same_rules(
    kit: Kit, olga: Session, ada: Session, tmp_path: Path
) -> None:
    text = changed(
        Part.ENCODE, ("[Fields]\n", "[Fields]\nLABEL=\n"), ("=#9A\n", "=#9A\nKeyPINPolicy=LABEL\n")
    )
    configure(kit, tmp_path, only=ENCODING, encode=text)
    card = await assigned(kit, olga, ada)
    assert "is no value of KeyPINPolicy: never, once, always" in await unfit(kit, olga, EXTEND, card)
    async with kit.database.write() as tx:
        (await tx.get_one(Card, card)).label = "never"
    said = await unfit(kit, olga, EXTEND, card)
    assert "KeyPINPolicy=never does not fit for 9A" in said
    assert said.startswith(f"line {text.splitlines().index('KeyPINPolicy=LABEL') + 1}: ")


async def test_the_policies_of_keys_are_ordered_told_and_to_be_attested_where_the_card_can(
    kit: Kit, olga: Session, ada: Session, tmp_path: Path
) -> None:
    """The option asks for no attestation: nothing else would tell the portal that a key is as it was ordered."""
    configure(kit, tmp_path, only=ENCODING, encode=changed(Part.ENCODE, *POLICIES))
    card = await assigned(kit, olga, ada)
    view = await kit.services.start_process(olga, EXTEND, ObjectRef("temporary_card", card))
    facts = dict(view.facts)
    await kit.services.cancel(olga, view.id)
    assert facts["PIN and touch of keys"] == "9A: PIN always, touch cached; 9E: PIN never; 9D: touch always"
    assert facts["Attestation"] == "the card proves that it made its keys, if it can"
    found = await wanted(kit, olga, EXTEND, card, {})
    assert isinstance(found, EncodeCard)
    assert {key.slot: (key.pin_policy, key.touch_policy) for key in found.keys if key.slot != "9C"} == {
        "9A": ("always", "cached"),
        "9E": ("never", None),
        "9D": (None, "always"),
    }
    assert found.attest == "where_possible"


async def test_what_the_standard_has_anyway_needs_no_attestation(
    kit: Kit, olga: Session, ada: Session, tmp_path: Path
) -> None:
    configure(kit, tmp_path, only=ENCODING, encode=changed(Part.ENCODE, POLICIES[1]))
    found = await wanted(kit, olga, EXTEND, await assigned(kit, olga, ada), {})
    assert isinstance(found, EncodeCard)
    assert found.attest == "no"


# --- data objects

PRINTED = "[Application_6_Printed]\nObjectReference=#5FC109\nObjectContent=#0105416C657820FE00\n"
OWN = "[Application_7_Own]\nObjectReference=#5F0001\nObjectText=HOLDER\n"


def with_objects(part: Part, *sections: str) -> str:
    return changed(part, ("[Fields]\n", "[Fields]\nHOLDER=\nLABEL=\n")) + "".join(sections)


async def objects(kit: Kit, olga: Session, card: str) -> list[DataObject]:
    found = await wanted(kit, olga, EXTEND, card, {})
    assert isinstance(found, EncodeCard)
    return found.objects


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("ObjectReference=LABEL\nObjectText=#x", "is no value of ObjectReference"),
        ("ObjectReference=#5F0001\nObjectContent=LABEL", "is no value of ObjectContent"),
    ],
)
async def test_what_a_variable_brings_of_an_object_is_checked(
    kit: Kit, olga: Session, ada: Session, tmp_path: Path, section: str, said: str
) -> None:
    configure(kit, tmp_path, only=ENCODING, encode=with_objects(Part.ENCODE, f"[Application_8]\n{section}\n"))
    assert said in await unfit(kit, olga, EXTEND, await assigned(kit, olga, ada))


async def test_a_tag_and_a_second_one_that_a_variable_brings(
    kit: Kit, olga: Session, ada: Session, tmp_path: Path
) -> None:
    section = "[Application_8]\nObjectReference=LABEL\nObjectText=#x\n"
    configure(kit, tmp_path, only=ENCODING, encode=with_objects(Part.ENCODE, OWN, section))
    card = await assigned(kit, olga, ada)
    for label, said in (("5FC102", "is never written by a description"), ("5F0001", "by two applications")):
        async with kit.database.write() as tx:
            (await tx.get_one(Card, card)).label = label
        assert said in await unfit(kit, olga, EXTEND, card)


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        (
            [
                f"[Application_8_{number}]\nObjectReference=#5F010{number}\nObjectText=#x\n"
                for number in range(9)
            ],
            "9 objects",
        ),
        (
            [
                f"[Application_8_{number}]\nObjectReference=#5F010{number}\nObjectText=#{'x' * 6_001}\n"
                for number in (1, 2)
            ],
            "12002 bytes",
        ),
    ],
)
async def test_more_than_an_order_takes(
    kit: Kit, olga: Session, ada: Session, tmp_path: Path, sections: list[str], said: str
) -> None:
    configure(kit, tmp_path, only=ENCODING, encode=with_objects(Part.ENCODE, *sections))
    assert f"{said} is too much" in await unfit(kit, olga, EXTEND, await assigned(kit, olga, ada))


async def test_objects_are_ordered_and_told(kit: Kit, olga: Session, ada: Session, tmp_path: Path) -> None:
    left_out = "[Application_8]\nOnlyIf=#false\nObjectReference=#5F0002\nObjectText=#x\n"
    configure(kit, tmp_path, only=ENCODING, encode=with_objects(Part.ENCODE, PRINTED, OWN, left_out))
    card = await assigned(kit, olga, ada)
    view = await kit.services.start_process(olga, EXTEND, ObjectRef("temporary_card", card))
    assert dict(view.facts)["Data on the card"] == "printed information (5FC109), 5F0001"
    await kit.services.cancel(olga, view.id)
    assert await objects(kit, olga, card) == [
        DataObject("5FC109", bytes.fromhex("0105416c657820fe00")),
        DataObject("5F0001", ada.user.email.encode()),
    ]


async def test_who_gets_the_card_next_gets_nothing_of_it(
    kit: Kit, olga: Session, ada: Session, tmp_path: Path
) -> None:
    """As long as it may be there: an order that was given up may have written it."""
    configure(kit, tmp_path, only=ENCODING, encode=with_objects(Part.ENCODE, PRINTED, OWN))
    card = await assigned(kit, olga, ada)
    await encoded(kit, olga, card)
    assert await objects(kit, olga, card) == []  # it is extended: what its holder has stays
    await kit.person("bob@example.org")
    await step(kit, olga, WithdrawTemporaryCard.name, card, {"Reason": ["came back"]})
    await step(kit, olga, AssignTemporaryCard.name, card, {"Person": ["bob@example.org"]})
    assert await objects(kit, olga, card) == [
        DataObject("5FC109", bytes.fromhex("0105416c657820fe00")),
        DataObject("5F0001", b"bob@example.org"),
    ]
    configure(kit, tmp_path, only=ENCODING)
    assert await objects(kit, olga, card) == [DataObject("5F0001"), DataObject("5FC109")]
    async with kit.database.write() as tx:  # an order that was given up has changed nothing for sure
        ran = (await tx.scalars(select(Order).where(Order.changing_at.is_not(None)))).one()
        ran.changing_at = None
    assert await objects(kit, olga, card) == []
