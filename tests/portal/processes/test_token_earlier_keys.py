"""Earlier encryption keys for cards that are made through PKCS#11: who agrees, whose keys go, and which come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from sqlalchemy import select

from portal.model.states import Role
from portal.processes.extend_temporary_card import ExtendTemporaryCard
from portal.store.tables import Order
from protocol.messages import Changing, Finished, KeySource
from tests.support import issued_cards as cards
from tests.support.issued_cards import Begun, begun, receipt, staff
from tests.support.portal_kit import running_portal
from tests.support.token_cards import EXAMPLES, approved, assigned, described, recovery_agreed, temporary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from portal.views import Session
    from tests.support.issued_cards import Staff
    from tests.support.portal_kit import Kit

FACT = "Earlier encryption keys"
NEWER, OLDER = "A2", "A1"


def without(word: str, *lines: str) -> str:
    """The documents' example, without its last application or some lines."""
    text = (EXAMPLES / f"token-{word}.dsc").read_text()
    for line in lines:
        assert f"{line}\n" in text
        text = text.replace(f"{line}\n", "")
    return text


@pytest.fixture
async def kit(tmp_path: Path, database_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Kit]:
    """A portal with such cards; a test may give the text of a description."""
    changes: dict[str, Any] = {}
    for word, text in getattr(request, "param", {}).items():
        path = tmp_path / f"{word}.dsc"
        path.write_text(text)
        changes[word] = str(path)
    files = described(tmp_path, **changes)
    async with running_portal(tmp_path, database=database_url, card_descriptions=files) as running:
        yield running


@pytest.fixture
async def people(kit: Kit) -> Staff:
    found = await staff(kit)
    certificates = ["authentication", "encryption"]
    await cards.options(kit, found.root, CardsCertificates=certificates, CardsMultipleActive=["true"])
    return found


@pytest.fixture
async def ada(kit: Kit) -> Session:
    return await kit.person()


async def begun_for(kit: Kit, people: Staff, person: Session, serial: str) -> Begun:
    return await begun(kit, people.olga, await approved(kit, people, person), serial=serial)


async def completed(work: Begun, serial: str) -> None:
    """A card has taken everything that the order has."""
    assert work.agent.order is not None
    await work.agent.say(Changing())
    made = work.agent.card.requests(work.agent.order)
    await work.agent.say(msgspec.structs.replace(made, serial=None, token=serial))
    await work.agent.say(receipt(work, await work.agent.hear()))  # type: ignore[arg-type]
    assert isinstance(await work.agent.hear(), Finished)


async def fact(kit: Kit, people: Staff, work: Begun) -> str | None:
    return (await kit.services.process(people.olga, work.view.id)).facts.get(FACT)


def optional(work: Begun) -> list[tuple[str, KeySource]]:
    return [(key.slot, key.source) for key in work.ordered.keys if key.optional]


async def test_without_an_agreement_none_goes_on_to_the_card(kit: Kit, people: Staff, ada: Session) -> None:
    await completed(await begun_for(kit, people, ada, OLDER), OLDER)
    work = await begun_for(kit, people, ada, NEWER)
    assert optional(work) == []
    assert "two persons have to agree first" in (await fact(kit, people, work) or "")


@pytest.mark.parametrize("kit", [{"issue": without("issue").rpartition("[Application_4")[0]}], indirect=True)
async def test_a_description_that_recovers_none_says_nothing_of_them(
    kit: Kit, people: Staff, ada: Session
) -> None:
    await completed(await begun_for(kit, people, ada, OLDER), OLDER)
    await recovery_agreed(kit, people, ada)
    work = await begun_for(kit, people, ada, NEWER)
    assert (optional(work), await fact(kit, people, work)) == ([], None)


async def test_they_are_ordered_beside_the_current_ones_and_counted_when_the_card_has_them(
    kit: Kit, people: Staff, ada: Session
) -> None:
    await completed(await begun_for(kit, people, ada, OLDER), OLDER)
    await recovery_agreed(kit, people, ada)
    work = await begun_for(kit, people, ada, NEWER)
    assert [key.slot for key in work.ordered.keys] == ["9A", "9D", "82"]
    assert optional(work) == [("82", KeySource.IMPORT)]
    await completed(work, NEWER)
    assert await fact(kit, people, work) == "1 of 1 are on the card"


@pytest.mark.parametrize(
    ("kit", "clears"),
    [
        ({}, (False, [])),
        ({"encode": without("encode", "InitToken=true", "InitialLabel=LABEL")}, (True, ["9C", "9E"])),
    ],
    indirect=["kit"],
)
async def test_what_a_former_holder_has_left_goes_where_the_card_is_not_erased(
    kit: Kit, ada: Session, clears: tuple[bool, list[str]]
) -> None:
    olga = await kit.person("olga@example.org", [Role.OPERATOR])
    card = await assigned(kit, olga, ada, OLDER)
    view = await temporary(kit, olga, ExtendTemporaryCard.name, card)
    async with kit.database.read() as tx:
        found = (await tx.scalars(select(Order).where(Order.process_id == view.id))).one()
    asked = found.parameters
    assert (asked.get("clear_retired", False), asked.get("clear", [])) == clears
    assert asked["new_puk"] is True
