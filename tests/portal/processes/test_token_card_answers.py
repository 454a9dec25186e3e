"""Cards that are made through PKCS#11: what a device says of one, what isn't taken, and what is read from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from portal.processes.card_descriptions import BUILT_IN, CHOICE
from portal.processes.read_card import ReadCardInReader
from protocol.messages import (
    CardReading,
    Changing,
    Finished,
    ManagementAlgorithm,
    Proceed,
    Receipt,
    Undo,
)
from protocol.tokens import token_guid
from tests.support import issued_cards
from tests.support.card_signatures import authentication
from tests.support.issued_cards import begun, card_row, certificate_states, receipt
from tests.support.token_cards import NAME, approved
from tests.support.token_stage import SERIAL, ada, issued, kit, people, requested

if TYPE_CHECKING:
    from portal.views import ProcessView, Session
    from protocol.messages import Message
    from tests.support.issued_cards import Staff
    from tests.support.portal_kit import Kit
    from tests.support.software_agent import SoftwareAgent

__all__ = ["ada", "kit", "people"]


# --- what a device says


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"token": "another"}, "$.token"),
        ({"token": SERIAL.lower()}, "$.token"),
        ({"token": None}, "$.token"),
        ({"token": None, "serial": "42"}, "$.token"),
        ({"serial": "42"}, "$.serial"),
        ({"guid": "0" * 32}, "$.guid"),
    ],
)
async def test_requests_of_another_card_are_not_taken(
    kit: Kit, people: Staff, ada: Session, changes: dict[str, Any], path: str
) -> None:
    card = await approved(kit, people, ada)
    work = await begun(kit, people.olga, card, serial=SERIAL)
    await work.agent.say(requested(work, **changes))
    heard = await work.agent.hear()
    assert isinstance(heard, Undo)
    assert (heard.error.error, heard.error.fields) == ("params_invalid", {"path": path})
    assert await certificate_states(kit) == []
    assert (await card_row(kit, card)).state == "Approved"


async def test_a_piv_card_does_not_become_a_token(kit: Kit, people: Staff, ada: Session) -> None:
    card = await approved(kit, people, ada, BUILT_IN)
    work = await begun(kit, people.olga, card)
    assert work.agent.order is not None
    made = msgspec.structs.replace(work.agent.card.requests(work.agent.order), token=SERIAL)
    await work.agent.say(made)
    heard = await work.agent.hear()
    assert isinstance(heard, Undo)
    assert heard.error.fields == {"path": "$.token"}


@pytest.mark.parametrize(
    "changes", [{"management_replaced": ManagementAlgorithm.AES_192}, {"guid": "0" * 32}]
)
async def test_a_receipt_that_claims_more_or_another_card_is_not_taken(
    kit: Kit, people: Staff, ada: Session, changes: dict[str, Any]
) -> None:
    card = await approved(kit, people, ada)
    work = await begun(kit, people.olga, card, serial=SERIAL)
    await work.agent.say(Changing())
    await work.agent.say(requested(work))
    made = receipt(work, await work.agent.hear())  # type: ignore[arg-type]
    await work.agent.say(msgspec.structs.replace(made, **changes))
    heard = await work.agent.hear()
    assert isinstance(heard, Undo)
    assert heard.error.error == "params_invalid"
    assert (await card_row(kit, card)).state == "Failed"


async def test_the_signature_of_another_card_activates_nothing(kit: Kit, people: Staff, ada: Session) -> None:
    card, work = await issued(kit, people, ada)
    _, agent, _ = await issued_cards.activating(kit, ada, card, work)
    row = await card_row(kit, card)
    await agent.say(Receipt(guid=row.guid, signature=authentication(agent)))
    heard = await agent.hear()
    assert isinstance(heard, Undo)
    assert heard.error.error == "params_invalid"
    assert (await card_row(kit, card)).state == "Issued"


# --- what is read


async def reading(
    kit: Kit, olga: Session, kind: str, told: CardReading
) -> tuple[ProcessView, SoftwareAgent, Message]:
    """*Read card* by an operator; the process, the device, and what that has heard to its receipt."""
    view = await kit.services.start_process(olga, ReadCardInReader.name)
    view = await kit.services.next(olga, view.id, view.version, {CHOICE: [kind]})
    code = await kit.services.new_code(olga, view.id)
    agent = await kit.agent()
    await agent.claim(code.code)
    await agent.consent(number="417")
    await kit.bind(olga, view.id, "417")
    assert isinstance(await agent.hear(), Proceed)
    await agent.say(Receipt(guid=told.guid or "0" * 32, reading=told))
    return view, agent, await agent.hear()


@pytest.mark.parametrize(
    ("kind", "guid"), [(BUILT_IN, token_guid(SERIAL)), (NAME, token_guid("another")), (NAME, None)]
)
async def test_a_reading_that_can_not_be_is_not_taken(
    kit: Kit, people: Staff, kind: str, guid: str | None
) -> None:
    told = CardReading(kind="Works card", guid=guid, token=SERIAL)
    _, _, heard = await reading(kit, people.olga, kind, told)
    assert isinstance(heard, Undo)
    assert heard.error.error == "params_invalid"


@pytest.mark.parametrize(("serial", "known"), [(SERIAL, "Badge (card)"), ("0017", "no card of this portal")])
async def test_a_token_is_known_by_its_serial_number_alone(
    kit: Kit, people: Staff, ada: Session, serial: str, known: str
) -> None:
    card = await approved(kit, people, ada, BUILT_IN)
    await issued_cards.complete(await begun(kit, people.olga, card, serial="17"))
    await issued(kit, people, await kit.person("ben@example.org"))
    told = CardReading(kind="Works card", guid=token_guid(serial), token=serial, pin_tries=1)
    view, _, heard = await reading(kit, people.olga, NAME, told)
    assert isinstance(heard, Finished)
    facts = (await kit.services.process(people.olga, view.id)).facts
    assert facts["Known here as"] == known
    assert (facts["Serial number"], facts["PIN"]) == (serial, "tries left: 1")


async def test_staff_find_a_token_by_its_serial_number_and_see_what_it_is(
    kit: Kit, people: Staff, ada: Session
) -> None:
    card, _ = await issued(kit, people, ada)
    facts = await kit.portal.operator.object(people.olga, "card", card)
    shown = {fact.label: fact.text for fact in facts.facts}
    assert (shown["Serial"], shown["Kind of card"], shown["GUID"]) == (SERIAL, NAME, token_guid(SERIAL))
    found = await kit.portal.operator.search(people.olga, "card", {"text": SERIAL})
    assert [hit.object.id for hit in found.hits] == [card]
    found = await kit.portal.operator.search(people.olga, "card", {"text": SERIAL.lower()})
    assert list(found.hits) == []
