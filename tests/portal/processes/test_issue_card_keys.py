"""The keys of a card that is issued: which one it makes, and where the one for encryption comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from portal.processes import key_sources, order_rows, tasks
from portal.store.tables import ArchivedKey, Certificate
from protocol.messages import (
    Algorithm,
    CertificateRequest,
    KeyCount,
    KeySource,
    Progress,
    Requests,
)
from protocol.messages import Step as OrderStep
from tests.support import issued_cards as cards
from tests.support.databases import BACKENDS
from tests.support.issue_stage import ada, people, undone
from tests.support.issued_cards import Begun, Staff
from tests.support.software_agent import make_key, public_der
from tests.support.stored_objects import state_of_card

if TYPE_CHECKING:
    from portal.views import Session
    from tests.support.portal_kit import Kit

__all__ = ["ada", "people"]
on_both = pytest.mark.parametrize("backend", BACKENDS, indirect=True)


# --- which key the card makes


async def test_the_page_is_told_which_of_several_keys_the_card_makes(
    kit: Kit, people: Staff, ada: Session
) -> None:
    work = await cards.begun(kit, people.olga, await cards.approved(kit, people, ada))
    seen = []
    for key in (KeyCount(number=2, of=3), None):
        await work.agent.say(Progress(step=OrderStep.KEYS, key=key))
        view = await kit.services.process(people.olga, work.view.id)
        assert view.order is not None
        seen.append((view.order.step, view.order.key))
    assert seen == [(OrderStep.KEYS, KeyCount(number=2, of=3)), (OrderStep.KEYS, None)]


# --- the encryption key


async def with_encryption(kit: Kit, people: Staff, ada: Session, **changed: list[str]) -> str:
    """A card that can be issued, and gets a key for encryption alone."""
    await cards.options(
        kit, people.root, CardsCertificates=["encryption"], CardsActivationNeedsCard=[], **changed
    )
    return await cards.approved(kit, people, ada)


async def facts_of(kit: Kit, people: Staff, work: Begun) -> str:
    """What the process's page says of the encryption key."""
    return (await kit.services.process(people.olga, work.view.id)).facts["Encryption key"]


async def test_a_key_that_has_to_be_recoverable_is_not_left_to_the_card(
    kit: Kit, people: Staff, ada: Session
) -> None:
    card = await with_encryption(kit, people, ada, CardsRecoverEncryption=["required"])
    work = await cards.begun(kit, people.olga, card)
    assert [key.source for key in work.ordered.keys] == [KeySource.IMPORT]
    made = CertificateRequest(slot="9D", public_key=public_der(make_key(Algorithm.P_256)))
    await work.agent.say(Requests(guid=work.agent.card.guid, serial="42", requests=[made]))
    assert await undone(work) == "params_invalid"
    assert await cards.certificate_states(kit) == []


@on_both
@pytest.mark.parametrize("imports", [False, True])
async def test_a_key_that_is_left_to_the_card_is_in_the_archive_only_where_the_card_takes_it(
    kit: Kit, people: Staff, ada: Session, imports: bool
) -> None:
    card = await with_encryption(kit, people, ada)
    work = await cards.begun(kit, people.olga, card)
    assert [key.source for key in work.ordered.keys] == [KeySource.IMPORT_IF_POSSIBLE]
    assert "a card that takes no such key makes one itself" in await facts_of(kit, people, work)
    work.agent.card.imports = imports
    await cards.complete(work)
    assert await state_of_card(kit, card) == "Issued"
    async with kit.database.read() as tx:
        [row] = await tx.scalars(select(Certificate))
        archived = list(await tx.scalars(select(ArchivedKey)))
    assert row.key_source == ("import" if imports else "generate")
    assert (row.archived_key_id is not None) is imports
    assert len(archived) == imports
    said = await facts_of(kit, people, work)
    assert ("lost with the card" in said) is not imports
    assert ("takes no key from the portal's archive" in said) is not imports


async def test_requests_that_come_again_tell_the_same(kit: Kit, people: Staff, ada: Session) -> None:
    work = await cards.begun(kit, people.olga, await with_encryption(kit, people, ada))
    assert work.agent.order is not None
    work.agent.card.imports = False
    asked = work.agent.card.requests(work.agent.order)
    async with kit.database.read() as tx:
        before = tasks.plan_of(await order_rows.load(tx, work.agent.order.jti))
    await cards.certified(work)
    async with kit.database.read() as tx:
        after = tasks.plan_of(await order_rows.load(tx, work.agent.order.jti))
    assert [item.source for item in before.certificates] == ["import_if_possible"]
    assert [item.source for item in after.certificates] == ["generate"]
    assert key_sources.settled_plan(after, asked) == after
    async with kit.database.read() as tx:
        assert [row.key_source for row in await tx.scalars(select(Certificate))] == ["generate"]
        assert list(await tx.scalars(select(ArchivedKey))) == []


async def test_a_key_that_is_not_to_be_recoverable_is_made_on_every_card(
    kit: Kit, people: Staff, ada: Session
) -> None:
    card = await with_encryption(kit, people, ada, CardsRecoverEncryption=["no"])
    work = await cards.begun(kit, people.olga, card)
    assert [key.source for key in work.ordered.keys] == [KeySource.GENERATE]
    await cards.complete(work)
    assert "lost with the card" in await facts_of(kit, people, work)
    async with kit.database.read() as tx:
        assert list(await tx.scalars(select(ArchivedKey))) == []
