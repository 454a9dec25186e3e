"""Pages about cards as staff and holders see them, for pictures: each process stands at the step that is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portal.model.states import Role
from portal.processes import card_certificates
from portal.processes.activate_card import ActivateCard
from portal.processes.issue_card import IssueCard
from portal.processes.read_card import ReadCardInReader
from portal.processes.request_card import RequestCard
from portal.processes.unblock_change_pin import UnblockChangePin
from portal.views import ObjectRef
from protocol.messages import CardReading, CertificateOnCard, Finished, Proceed, Receipt
from tests.support import issued_cards
from tests.support.issued_cards import Staff

if TYPE_CHECKING:
    from portal.views import Session
    from tests.support.portal_kit import Kit


async def card_scenes(kit: Kit, olga: Session) -> dict[str, str]:
    """Name of each picture to its path.

    Args:
        kit: a portal without cards.
        olga: who has every role, and looks at the pages.
    """
    otto = await kit.person("otto@example.org", [Role.OPERATOR])
    paul = await kit.person("paul@example.org", [Role.APPROVER])
    names = ("fay", "gil", "hal", "ivy", "jo")
    fay, gil, hal, ivy, jo = [await kit.person(f"{name}@example.org") for name in names]
    await issued_cards.options(kit, olga, CardsKeyAlgorithm=["P-256"])
    by_otto, by_olga = Staff(olga, otto, paul), Staff(olga, olga, paul)
    asked = await _started(kit, olga, RequestCard.name, ObjectRef("user", fay.user.id))
    waits, _ = await issued_cards.requested(kit, otto, gil, "Badge of Gil")
    refused, _ = await issued_cards.requested(kit, otto, ivy, "Badge of Ivy")
    await issued_cards.decide(kit, olga, refused, "reject")
    approved = await issued_cards.approved(kit, by_olga, hal, "Badge of Hal")
    issues = await _started(kit, olga, IssueCard.name, ObjectRef("card", approved))
    _, printed = await issued_cards.issued(kit, by_olga, jo, "00 43")
    own, _ = await issued_cards.issued(kit, by_otto, olga, "00 44")
    activates = await _started(kit, olga, ActivateCard.name, ObjectRef("card", own))
    other = await issued_cards.active(kit, by_otto, olga, "00 45")
    unblocks = await _started(kit, olga, UnblockChangePin.name, ObjectRef("card", other))
    processes = {
        "request-card": asked,
        "approve": waits.id,
        "approve-refused": refused.id,
        "issue": issues,
        "issued-letters": printed.view.id,
        "read-card": await _read(kit, olga, other),
        "activate": activates,
        "unblock": unblocks,
    }
    found = {name: f"/processes/{process}" for name, process in processes.items()}
    return found | {"object-card": f"/operator/objects/card/{other}"}


async def _started(kit: Kit, who: Session, process: str, ref: ObjectRef | None = None) -> str:
    return (await kit.services.start_process(who, process, ref)).id


async def _read(kit: Kit, olga: Session, card: str) -> str:
    """A process that has read a card; its id."""
    view = await kit.services.start_process(olga, ReadCardInReader.name)
    view = await kit.services.next(olga, view.id, view.version, {})
    agent = await kit.agent()
    await agent.claim((await kit.services.new_code(olga, view.id)).code)
    await agent.consent(number="417")
    await kit.bind(olga, view.id, "417")
    heard = await agent.hear()
    assert isinstance(heard, Proceed), heard
    row = await issued_cards.card_row(kit, card)
    async with kit.database.read() as tx:
        on_it = sorted(await card_certificates.related(tx, row), key=lambda item: item.slot)
    reading = CardReading(
        kind="PIV card with Yubico's commands",
        guid=row.guid,
        serial=row.serial,
        pin_tries=3,
        puk_tries=3,
        certificates=[CertificateOnCard(slot=item.slot, certificate=item.der) for item in on_it],
    )
    await agent.say(Receipt(guid=row.guid, reading=reading))
    heard_last = await agent.hear()
    assert isinstance(heard_last, Finished), heard_last
    return view.id
