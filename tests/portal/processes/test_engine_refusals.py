"""What the engine refuses: objects, states, persons, roles, forms, pages; asked at the start and at every step."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from portal.errors import FieldErrors, Forbidden, NotFound, SecondPerson, StalePage, SwitchedOff, WrongState
from portal.model.states import CertificateState, Role, UserState, VirtualSmartCardState
from portal.store.tables import Card, Certificate, Process, User
from portal.views import ObjectRef
from protocol.errors import InlayError
from tests.support.databases import BACKENDS
from tests.support.sample_processes import LockCard, OwnCard, TwoPersons
from tests.support.stored_objects import put_card, put_certificate, state_of_card

if TYPE_CHECKING:
    from portal.views import ProcessView, Session
    from tests.support.portal_kit import Kit

pytestmark = pytest.mark.parametrize("backend", BACKENDS, indirect=True)

FORM = {"Reason": ["lost it"], "Days": ["3"]}


@pytest.fixture(autouse=True)
def samples(kit: Kit) -> None:
    """The sample processes, beside the portal's own."""
    for definition in (LockCard(), OwnCard(), TwoPersons()):
        kit.portal.engine.definitions[definition.name] = definition


@pytest.fixture
async def ada(kit: Kit) -> Session:
    """Whom it is about."""
    return await kit.person()


@pytest.fixture
async def olga(kit: Kit) -> Session:
    """An operator."""
    return await kit.person("olga@example.org", [Role.OPERATOR])


@pytest.fixture
async def paul(kit: Kit) -> Session:
    """An operator who may approve, too."""
    return await kit.person("paul@example.org", [Role.OPERATOR, Role.APPROVER])


def _card(card_id: str) -> ObjectRef:
    return ObjectRef("virtual_smart_card", card_id)


async def _set_card(kit: Kit, card_id: str, state: VirtualSmartCardState) -> None:
    async with kit.database.write() as tx:
        (await tx.get_one(Card, card_id)).state = state.value


async def _locking(kit: Kit, operator: Session, card_id: str) -> ProcessView:
    """A lock process at its second step."""
    view = await kit.services.start_process(operator, LockCard.name, _card(card_id))
    return await kit.services.next(operator, view.id, view.version, FORM)


async def test_start_without_the_role(kit: Kit, ada: Session) -> None:
    """The role is asked on the server, whatever a page shows."""
    card = await put_card(kit, ada)
    with pytest.raises(Forbidden) as caught:
        await kit.services.start_process(ada, LockCard.name, _card(card))
    assert caught.value.role == "operator"


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("virtual_smart_card", False),
        ("card", True),
        ("certificate", True),
        ("nonsense", True),
        ("user", True),
    ],
)
async def test_start_on_what_is_not_there(
    kit: Kit, ada: Session, olga: Session, kind: str, named: bool
) -> None:
    """No such object, another kind's id, a kind that the process doesn't take: the same answer."""
    card = await put_card(kit, ada)
    with pytest.raises(NotFound):
        await kit.services.start_process(olga, LockCard.name, ObjectRef(kind, card if named else "0" * 32))


async def test_start_without_a_target_or_with_one_too_many(kit: Kit, ada: Session, olga: Session) -> None:
    """A process that works on an object needs one, the other kind takes none."""
    card = await put_card(kit, ada)
    with pytest.raises(NotFound):
        await kit.services.start_process(olga, LockCard.name)
    with pytest.raises(NotFound):
        await kit.services.start_process(ada, "VirtualSmartCardSelfServiceProcGet", _card(card))


async def test_start_on_another_persons_object(kit: Kit, ada: Session) -> None:
    """Self-service is for one's own; what isn't looks as if it weren't there."""
    other = await kit.person("eve@example.org")
    card = await put_card(kit, ada)
    with pytest.raises(NotFound):
        await kit.services.start_process(other, OwnCard.name, _card(card))
    assert await kit.services.possible(other, _card(card)) == []


async def test_start_in_a_wrong_state_names_those_that_would_do(
    kit: Kit, ada: Session, olga: Session
) -> None:
    """At the start, and before it on the object's page."""
    card = await put_card(kit, ada, VirtualSmartCardState.LOCKED)
    with pytest.raises(WrongState) as caught:
        await kit.services.start_process(olga, LockCard.name, _card(card))
    assert caught.value.would_do == ["Active", "Inactive"]
    offered = {item.name: item.refused for item in await kit.services.possible(olga, _card(card))}
    assert offered[LockCard.name] == str(caught.value)


async def test_start_of_what_is_switched_off(kit: Kit, ada: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused at the start, and at a step when it is switched off meanwhile."""
    card = await put_card(kit, ada)
    view = await kit.services.start_process(ada, OwnCard.name, _card(card))
    monkeypatch.setattr(OwnCard, "switched_off", True)
    with pytest.raises(SwitchedOff):
        await kit.services.next(ada, view.id, view.version)
    with pytest.raises(SwitchedOff):
        await kit.services.start_process(ada, OwnCard.name, _card(await put_card(kit, ada)))


async def test_the_target_changes_between_two_steps(kit: Kit, ada: Session, olga: Session) -> None:
    """Its state is asked anew at every step; the process stays where it was and can be cancelled."""
    card = await put_card(kit, ada)
    view = await _locking(kit, olga, card)
    await _set_card(kit, card, VirtualSmartCardState.EXPIRED)
    with pytest.raises(WrongState):
        await kit.services.next(olga, view.id, view.version)
    assert (await kit.services.process(olga, view.id)).step == "sure"
    assert (await kit.services.cancel(olga, view.id)).state == "cancelled"
    assert await state_of_card(kit, card) == "Expired"


async def test_two_operators_on_one_object(kit: Kit, ada: Session, olga: Session, paul: Session) -> None:
    """One wins, the other is told why."""
    card = await put_card(kit, ada)
    views = [await _locking(kit, olga, card), await _locking(kit, paul, card)]
    assert views[0].id != views[1].id
    results = await asyncio.gather(
        kit.services.next(olga, views[0].id, views[0].version),
        kit.services.next(paul, views[1].id, views[1].version),
        return_exceptions=True,
    )
    told = [result for result in results if isinstance(result, BaseException)]
    assert [str(error) for error in told] == [
        "The virtual smart card is Locked. The state needed: Active or Inactive."
    ]
    assert await state_of_card(kit, card) == "Locked"


async def test_the_acting_person_changes_between_two_steps(kit: Kit, ada: Session, olga: Session) -> None:
    """State and role of who acts are asked anew at every step, not taken from the session."""
    card = await put_card(kit, ada)
    view = await _locking(kit, olga, card)
    await kit.portal.accounts.set_state("olga@example.org", UserState.INACTIVE)
    with pytest.raises(InlayError) as caught:
        await kit.services.next(olga, view.id, view.version)
    assert caught.value.code == "user_not_active"
    assert await state_of_card(kit, card) == "Active"


async def test_a_role_that_is_taken_away_between_two_steps(
    kit: Kit, ada: Session, olga: Session, paul: Session
) -> None:
    """Of who started it, and of the second person: both have the role in their session still."""
    card, certificate = await put_card(kit, ada), await put_certificate(kit, ada)
    locking = await _locking(kit, olga, card)
    asked = await kit.services.start_process(olga, TwoPersons.name, ObjectRef("certificate", certificate))
    asked = await kit.services.next(olga, asked.id, asked.version, {"Reason": ["needed"]})
    async with kit.database.write() as tx:
        for session in (olga, paul):
            (await tx.get_one(User, session.user.id)).roles = [Role.SELF_SERVICE.value]
    with pytest.raises(Forbidden) as caught:
        await kit.services.next(olga, locking.id, locking.version)
    assert caught.value.role == "operator"
    with pytest.raises(Forbidden) as caught:
        await kit.services.next(paul, asked.id, asked.version, {"Decision": ["agree"]})
    assert caught.value.role == "approver"
    with pytest.raises(Forbidden):
        await kit.services.start_process(olga, LockCard.name, _card(await put_card(kit, ada)))
    assert await state_of_card(kit, card) == "Active"
    assert (await kit.services.process(olga, asked.id)).step == "agree"


async def test_the_person_it_is_about_changes_between_two_steps(
    kit: Kit, ada: Session, olga: Session
) -> None:
    """So is the state of the person it is about, where the process asks for one."""
    certificate = await put_certificate(kit, ada)
    view = await kit.services.start_process(olga, TwoPersons.name, ObjectRef("certificate", certificate))
    await kit.portal.accounts.set_state("ada@example.org", UserState.LOCKED)
    with pytest.raises(WrongState) as caught:
        await kit.services.next(olga, view.id, view.version, {"Reason": ["needed"]})
    assert (caught.value.kind, caught.value.would_do) == ("subject", ["active"])


@pytest.mark.parametrize(
    ("form", "wrong"),
    [
        ({}, {"Reason", "Days"}),
        ({"Reason": ["no"], "Days": ["3"]}, {"Reason"}),
        ({"Reason": ["x" * 21], "Days": ["3"]}, {"Reason"}),
        ({"Reason": ["line\nline"], "Days": ["3"]}, {"Reason"}),
        ({"Reason": ["lost it"], "Days": ["10"]}, {"Days"}),
        ({"Reason": ["lost it"], "Days": ["-1"]}, {"Days"}),
        ({"Reason": ["because"], "Days": ["3"]}, {"Reason"}),
        ({"Reason": ["lost it"], "Days": ["3"], "More": ["1"]}, {"More"}),
    ],
)
async def test_a_form_that_does_not_fit(
    kit: Kit, ada: Session, olga: Session, form: dict[str, list[str]], wrong: set[str]
) -> None:
    """Every field that is wrong is named; nothing of the form is kept, and the page can be sent again."""
    view = await kit.services.start_process(olga, LockCard.name, _card(await put_card(kit, ada)))
    with pytest.raises(FieldErrors) as caught:
        await kit.services.next(olga, view.id, view.version, form)
    assert set(caught.value.errors) == wrong
    async with kit.database.read() as tx:
        stored = await tx.get_one(Process, view.id)
    assert (stored.step, stored.version, "Reason" in stored.variables) == ("ask", view.version, False)
    assert (await kit.services.next(olga, view.id, view.version, FORM)).step == "sure"


async def test_a_form_where_none_is_asked(kit: Kit, ada: Session, olga: Session) -> None:
    """Fields that a step doesn't have are refused: a page can't set a variable."""
    view = await _locking(kit, olga, await put_card(kit, ada))
    with pytest.raises(FieldErrors):
        await kit.services.next(olga, view.id, view.version, {"card": ["another"]})


async def test_a_stale_page(kit: Kit, ada: Session, olga: Session) -> None:
    """A page that is older than the process does nothing; one that is sent twice works once."""
    view = await kit.services.start_process(olga, LockCard.name, _card(await put_card(kit, ada)))
    first = await kit.services.next(olga, view.id, view.version, FORM)
    assert await kit.services.next(olga, view.id, view.version, FORM) == first
    await kit.services.next(olga, view.id, first.version)
    with pytest.raises(StalePage):
        await kit.services.next(olga, view.id, view.version, FORM)


async def test_another_operators_process(kit: Kit, ada: Session, olga: Session, paul: Session) -> None:
    """A process belongs to who started it."""
    view = await _locking(kit, olga, await put_card(kit, ada))
    for call in (kit.services.process(paul, view.id), kit.services.cancel(paul, view.id)):
        with pytest.raises(NotFound):
            await call
    with pytest.raises(NotFound):
        await kit.services.next(paul, view.id, view.version)


async def test_nobody_agrees_to_an_own_request(kit: Kit, ada: Session, paul: Session) -> None:
    """Even with both roles: the second person is another one."""
    certificate = await put_certificate(kit, ada)
    view = await kit.services.start_process(paul, TwoPersons.name, ObjectRef("certificate", certificate))
    view = await kit.services.next(paul, view.id, view.version, {"Reason": ["needed"]})
    assert (view.step, view.can_next, view.can_cancel) == ("agree", False, True)
    with pytest.raises(SecondPerson):
        await kit.services.next(paul, view.id, view.version, {"Decision": ["agree"]})
    assert await kit.services.waiting(paul) == []


async def test_who_may_not_agree(kit: Kit, ada: Session, olga: Session) -> None:
    """The second person needs the step's role."""
    certificate = await put_certificate(kit, ada)
    view = await kit.services.start_process(olga, TwoPersons.name, ObjectRef("certificate", certificate))
    view = await kit.services.next(olga, view.id, view.version, {"Reason": ["needed"]})
    other = await kit.person("oscar@example.org", [Role.OPERATOR])
    assert await kit.services.waiting(other) == []
    with pytest.raises(NotFound):
        await kit.services.next(other, view.id, view.version, {"Decision": ["agree"]})


async def test_agreeing_when_the_target_has_changed(
    kit: Kit, ada: Session, olga: Session, paul: Session
) -> None:
    """The states are asked when the second person agrees, too."""
    certificate = await put_certificate(kit, ada)
    view = await kit.services.start_process(olga, TwoPersons.name, ObjectRef("certificate", certificate))
    view = await kit.services.next(olga, view.id, view.version, {"Reason": ["needed"]})
    async with kit.database.write() as tx:
        (await tx.get_one(Certificate, certificate)).state = CertificateState.EXPIRED.value
    with pytest.raises(WrongState):
        await kit.services.next(paul, view.id, view.version, {"Decision": ["agree"]})


async def test_the_second_person_refuses(kit: Kit, ada: Session, olga: Session, paul: Session) -> None:
    """The process ends, and says so to who asked."""
    certificate = await put_certificate(kit, ada)
    view = await kit.services.start_process(olga, TwoPersons.name, ObjectRef("certificate", certificate))
    view = await kit.services.next(olga, view.id, view.version, {"Reason": ["needed"]})
    await kit.services.next(paul, view.id, view.version, {"Decision": ["refuse"]})
    ended = await kit.services.process(olga, view.id)
    assert ended.state == "failed"
    assert ended.error is not None
    assert ended.error.error == "approval_refused"


async def test_two_starts_at_once_are_one_process(kit: Kit, ada: Session, olga: Session) -> None:
    """A double click on *Lock* starts it once; another object's is another process."""
    card, other = await put_card(kit, ada), await put_card(kit, ada)
    views = await asyncio.gather(
        *(kit.services.start_process(olga, LockCard.name, _card(card)) for _ in range(4))
    )
    assert len({view.id for view in views}) == 1
    assert (await kit.services.start_process(olga, LockCard.name, _card(other))).id != views[0].id
