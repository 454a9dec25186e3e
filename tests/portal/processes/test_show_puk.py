"""An operator gets a card's PUK: who may, never twice, and in the audit log before it is seen."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from portal.errors import FieldErrors, Forbidden, NotFound, WrongState
from portal.model.states import ProcessState, Role, UserState, VirtualSmartCardState
from portal.processes.show_puk import ShowPuk
from portal.store import audit
from portal.store.tables import AuditEntry, Process, User
from portal.views import ObjectRef
from protocol.errors import InlayError
from tests.support.portal_kit import P256, Kit
from tests.support.stored_objects import put_card

if TYPE_CHECKING:
    from portal.views import ProcessView, Session

REASON = {"Reason": ["called from the desk, shown her badge"]}
PUK = "48151623"


async def operator(kit: Kit, email: str = "olga@example.org") -> Session:
    return await kit.person(email, [Role.OPERATOR])


async def begin(kit: Kit, session: Session, card: str) -> ProcessView:
    return await kit.services.start_process(session, ShowPuk.name, ObjectRef("virtual_smart_card", card))


async def made_card(kit: Kit, session: Session) -> str:
    """A card whose PUK is in escrow."""
    await kit.set_options(**P256)
    _, agent = await kit.bound_agent(session)
    await agent.complete()
    (card,) = await kit.services.cards(session)
    return card.id


async def audited(kit: Kit) -> list[AuditEntry]:
    async with kit.database.read() as tx:
        return list(await tx.scalars(select(AuditEntry).where(AuditEntry.action == "card.puk_shown")))


@pytest.mark.parametrize("state", ["Registered", "Locked", "Replaced", "Expired"])
async def test_a_card_that_nobody_can_use_needs_no_puk(kit: Kit, state: str) -> None:
    card = await put_card(kit, await kit.person(), VirtualSmartCardState(state))
    with pytest.raises(WrongState) as caught:
        await begin(kit, await operator(kit), card)
    assert caught.value.would_do == ["Active", "Inactive"]


async def test_operators_alone_and_a_reason_is_needed(kit: Kit) -> None:
    ada = await kit.person()
    card = await made_card(kit, ada)
    for session in (ada, await kit.person("root@example.org", [Role.ADMINISTRATOR, Role.APPROVER])):
        with pytest.raises(Forbidden):
            await begin(kit, session, card)
    olga = await operator(kit)
    view = await begin(kit, olga, card)
    for reason in ([], [""], ["no"], ["x" * 201]):
        with pytest.raises(FieldErrors):
            await kit.services.next(olga, view.id, view.version, {"Reason": reason})
    with pytest.raises(NotFound):
        await kit.services.next(await operator(kit, "otto@example.org"), view.id, view.version, REASON)
    assert await audited(kit) == []


async def test_a_puk_that_was_shown_to_its_owner_is_not_there(kit: Kit) -> None:
    card = await put_card(kit, await kit.person())
    with pytest.raises(InlayError) as caught:
        await begin(kit, await operator(kit), card)
    assert caught.value.code == "puk_not_kept"


async def test_it_is_in_one_answer_and_in_no_other(kit: Kit) -> None:
    """Not when the page is sent twice, not when it is loaded again, not at the end; and nowhere in the database."""
    card = await made_card(kit, await kit.person())
    olga = await operator(kit)
    view = await begin(kit, olga, card)
    answers = await asyncio.gather(
        *(kit.services.next(olga, view.id, view.version, REASON) for _ in range(3))
    )
    shown = [answer.secret for answer in answers if answer.secret is not None]
    assert [(secret.name, secret.value) for secret in shown] == [("PUK", PUK)]
    assert PUK not in repr(answers)
    again = await kit.services.process(olga, view.id)
    assert again.secret is None
    assert again.facts["PUK"] == "was shown, once"
    done = await kit.services.next(olga, view.id, again.version)
    assert (done.state, done.secret) == (ProcessState.FINISHED, None)
    (entry,) = await audited(kit)
    assert (entry.actor, entry.object_id) == ("olga@example.org", card)
    assert entry.details["note"] == REASON["Reason"][0]
    async with kit.database.read() as tx:
        assert all(PUK not in str(process.variables) for process in await tx.scalars(select(Process)))
    assert len(await audited(kit)) == 1


@pytest.mark.parametrize("active", [False, True], ids=["account inactive", "role gone"])
async def test_a_page_sent_again_by_who_may_no_more_shows_nothing(kit: Kit, active: bool) -> None:
    """The step was taken, the portal was killed before the PUK was shown, and then the role was taken away."""
    card = await made_card(kit, await kit.person())
    olga = await operator(kit)
    view = await begin(kit, olga, card)
    await kit.portal.engine.next(olga, view.id, view.version, REASON)
    async with kit.database.write() as tx:
        user = await tx.get_one(User, olga.user.id)
        if active:
            user.roles = [Role.SELF_SERVICE.value]
        else:
            user.state = UserState.INACTIVE.value
    with pytest.raises((Forbidden, InlayError)) as caught:
        await kit.services.next(olga, view.id, view.version, REASON)
    assert isinstance(caught.value, Forbidden) == active
    assert await audited(kit) == []


async def test_what_can_not_be_written_down_is_not_shown(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    card = await made_card(kit, await kit.person())
    olga = await operator(kit)
    view = await begin(kit, olga, card)

    async def refuse(*_arguments: object, **named: object) -> None:
        if named.get("action") == "card.puk_shown":
            raise OSError(28, "full")
        await record(*_arguments, **named)  # type: ignore[arg-type]

    record = audit.record
    monkeypatch.setattr(audit, "record", refuse)
    with pytest.raises(OSError, match="full"):
        await kit.services.next(olga, view.id, view.version, REASON)
    monkeypatch.undo()
    assert await audited(kit) == []
    assert (await kit.services.process(olga, view.id)).facts.get("PUK") is None
