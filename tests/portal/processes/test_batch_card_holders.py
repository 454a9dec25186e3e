"""Cards of a batch that failed, and who counts as their holder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from portal.errors import WrongState
from portal.model.states import Role
from portal.processes.assign_temporary_card import AssignTemporaryCard
from portal.processes.extend_temporary_card import ExtendTemporaryCard
from portal.views import ObjectRef
from tests.support.batch_orders import batch_of, begun, torn, written
from tests.support.databases import BACKENDS
from tests.support.extended_cards import options, ordered

if TYPE_CHECKING:
    from portal.views import Session
    from tests.support.portal_kit import Kit

pytestmark = pytest.mark.parametrize("backend", BACKENDS, indirect=True)


@pytest.fixture
async def olga(kit: Kit) -> Session:
    """An operator."""
    return await kit.person("olga@example.org", [Role.OPERATOR])


async def test_a_card_of_a_batch_that_failed_is_nobodys_and_keeps_nobody_from_one_of_their_own(
    kit: Kit, olga: Session
) -> None:
    """Whoever makes cards ready may have one, and has it while the failed one is finished; it isn't extended."""
    root = await kit.person("root@example.org", [Role.ADMINISTRATOR])
    await options(kit, root, TempCardsEncode=["true"], TempCardsKeyAlgorithm=["P-256"])
    batch, batches = await batch_of(kit, olga, 2), kit.portal.batches
    failed = await batches.complete(olga, batch)
    agent, _ = await begun(kit, olga, failed)
    await torn(kit, agent, "7001")
    assert failed is not None
    _, second = await batches.go_on(olga, failed)
    agent, _ = await begun(kit, olga, second, agent)
    await written(agent, "7002")
    ref = ObjectRef("temporary_card", ordered(agent).card)
    view = await kit.services.start_process(olga, AssignTemporaryCard.name, ref)
    await kit.services.next(olga, view.id, view.version, {"Person": ["olga@example.org"]})
    left, made = [place.card for place in (await batches.one(olga, batch)).places]
    assert made == ref.id
    ref = ObjectRef("temporary_card", left)
    with pytest.raises(WrongState) as caught:
        await kit.services.start_process(olga, ExtendTemporaryCard.name, ref)
    assert caught.value.would_do == ["Assigned"]
    agent, _ = await begun(kit, olga, await batches.complete(olga, batch), agent)
    await written(agent, "7001")
    assert [place.state for place in (await batches.one(olga, batch)).places] == ["Unassigned", "Assigned"]
