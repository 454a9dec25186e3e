"""*Read card*: whose process, what isn't accepted of a device, then which of the portal's cards it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from portal.errors import Forbidden
from portal.model.states import ProcessState
from portal.processes.read_card import ReadCardInReader
from portal.store.tables import AuditEntry
from protocol.messages import CardReading, CertificateOnCard, Finished, Proceed, Receipt
from tests.support.databases import BACKENDS
from tests.support.extended_cards import ada, assigned, encoded, olga, row, undone
from tests.support.strange_certificates import STRANGE, certificate

if TYPE_CHECKING:
    from portal.views import ProcessView, Session
    from tests.support.portal_kit import Kit
    from tests.support.software_agent import SoftwareAgent

__all__ = ["ada", "olga"]
pytestmark = pytest.mark.parametrize("backend", BACKENDS, indirect=True)

GUID = "0123456789abcdef0123456789abcdef"


async def begun(kit: Kit, olga: Session) -> tuple[ProcessView, SoftwareAgent]:
    """An order that a device of hers has claimed and agreed to."""
    view = await kit.services.start_process(olga, ReadCardInReader.name)
    view = await kit.services.next(olga, view.id, view.version, {})
    code = await kit.services.new_code(olga, view.id)
    agent = await kit.agent()
    await agent.claim(code.code)
    assert agent.order is not None
    assert agent.order.binding == "number"
    await agent.consent(number="417")
    await kit.bind(olga, view.id, "417")
    assert isinstance(await agent.hear(), Proceed)
    return view, agent


async def read(kit: Kit, olga: Session, **told: Any) -> dict[str, str]:
    """What the page shows of a card that tells this."""
    view, agent = await begun(kit, olga)
    reading = CardReading(kind="PIV card", **told)
    await agent.say(Receipt(guid=reading.guid or "0" * 32, reading=reading))
    assert isinstance(await agent.hear(), Finished)
    view = await kit.services.process(olga, view.id)
    assert view.step == "details"
    assert (await kit.services.next(olga, view.id, view.version)).state is ProcessState.FINISHED
    return dict(view.facts)


async def test_it_is_for_operators(kit: Kit, ada: Session, olga: Session) -> None:
    with pytest.raises(Forbidden):
        await kit.services.start_process(ada, ReadCardInReader.name)


@pytest.mark.parametrize(
    "receipt",
    [
        Receipt(guid=GUID),
        Receipt(guid=GUID, reading=CardReading(kind="PIV card")),
        Receipt(guid=GUID, reading=CardReading(kind="PIV card", guid="f" * 32)),
        Receipt(guid=GUID, reading=CardReading(kind="PIV card", guid=GUID), puk_replaced=True),
    ],
    ids=["nothing read", "no identity", "another identity", "a key replaced"],
)
async def test_a_receipt_that_does_not_fit_what_was_read_is_refused(
    kit: Kit, olga: Session, receipt: Receipt
) -> None:
    _, agent = await begun(kit, olga)
    await agent.say(receipt)
    assert await undone(agent) == "params_invalid"


async def test_a_card_of_nobody_here_is_shown_as_it_tells(kit: Kit, olga: Session) -> None:
    junk = CertificateOnCard(slot="9A", certificate=b"\x30\x02\x05\x00")
    facts = await read(kit, olga, serial="77", certificates=[junk], pin_tries=0, omitted=2)
    assert facts["Known here as"] == "no card of this portal"
    assert facts["Identity (GUID)"] == "none"
    assert facts["PIN"] == "blocked"
    assert facts["PUK"] == "tries left: not told"
    assert facts["Certificate 1"] == "9A: can't be read"
    assert facts["Not shown"].startswith("2 ")


async def test_a_card_of_the_portal_is_known_by_its_identity_and_else_by_its_serial_number(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card = await assigned(kit, olga, ada)
    facts = await read(kit, olga, serial="42", guid="f" * 32)
    assert facts["Known here as"] == "Visitor 7 (temporary card)"
    await encoded(kit, olga, card)
    facts = await read(kit, olga, guid=(await row(kit, card)).guid, pin_tries=3)
    assert facts["Known here as"] == "Visitor 7 (temporary card)"
    assert facts["PIN"] == "tries left: 3"
    async with kit.database.read() as tx:
        query = select(AuditEntry.action).where(
            AuditEntry.object_id == card, AuditEntry.action == "card.read"
        )
        assert len(list(await tx.scalars(query))) == 2


async def test_a_name_on_a_card_neither_turns_its_line_around_nor_begins_another(
    kit: Kit, olga: Session
) -> None:
    """Whoever wrote the card chose it, and an operator reads it as the portal's words."""
    der = certificate(name="ada\u202e\u2066\u2029\x1b[2J, serial number 1")
    told = [CertificateOnCard(slot="9A", certificate=der)]
    told += [CertificateOnCard(slot="9C", certificate=make()) for make in STRANGE]
    shown = await read(kit, olga, certificates=told)
    assert shown["Certificate 1"].isprintable()
    assert shown["Certificate 1"].endswith(", serial number 4d")
    others = [shown[f"Certificate {number}"] for number in range(2, 2 + len(STRANGE))]
    assert others == ["9C: can't be read"] * len(STRANGE)
