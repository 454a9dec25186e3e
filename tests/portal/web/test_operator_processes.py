"""Processes from an object's page: any that the server allows, with their forms, and what is refused on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from portal.model.states import Role, UserState
from portal.processes.lock_for_operator import LockForOperator
from portal.processes.request_temporary_card import RequestTemporaryCard
from tests.support.sample_processes import LockCard, OwnCard, TwoPersons
from tests.support.stored_objects import put_card, put_certificate, state_of_card

if TYPE_CHECKING:
    from portal.views import Session
    from tests.portal.web.desk import Desk
    from tests.portal.web.visitor import Page, Visitor

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
async def ada(desk: Desk) -> Session:
    return await desk.kit.person("ada@example.org")


@pytest.fixture
async def card(desk: Desk, ada: Session) -> str:
    return await put_card(desk.kit, ada)


@pytest.fixture
async def operator(desk: Desk) -> Visitor:
    return await desk.person("olga@example.org", Role.OPERATOR)


def page_of(card: str) -> str:
    return f"/operator/objects/virtual_smart_card/{card}"


async def start(visitor: Visitor, card: str, name: str = LockForOperator.name) -> Page:
    """Start a process by the form that an object's page has for it."""
    token = (await visitor.get("/start")).hidden("/logout")
    form = token | {"name": name, "kind": "virtual_smart_card", "id": card}
    return await visitor.post("/processes", form)


async def test_a_hand_made_start_is_refused(desk: Desk, ada: Session, card: str) -> None:
    """A self-service user, an approver, an administrator; the holder as well."""
    for number, roles in enumerate(([Role.SELF_SERVICE], [Role.APPROVER], [Role.ADMINISTRATOR])):
        visitor = await desk.person(f"person{number}@example.org", *roles)
        assert (await start(visitor, card)).status == 403
        assert (await visitor.get(page_of(card))).status == 403
    assert await state_of_card(desk.kit, card) == "Active"


async def test_objects_that_are_not_there_or_not_of_this_kind(
    desk: Desk, operator: Visitor, ada: Session
) -> None:
    certificate = await put_certificate(desk.kit, ada)
    for key in ("nothing", certificate, ada.user.id, "../x", ""):
        assert (await start(operator, key)).status == 404
    assert (await start(operator, "x", "NoSuchProcess")).status == 404


async def test_another_operator_s_process_is_not_there(desk: Desk, operator: Visitor, card: str) -> None:
    begun = await start(operator, card)
    other = await desk.person("oscar@example.org", Role.OPERATOR)
    assert (await other.get(begun.location)).status == 404
    token = (await other.get("/start")).hidden("/logout")
    for action in ("next", "cancel"):
        form = token | {"expected_version": "1", "Reason": "because"}
        assert (await other.post(f"{begun.location}/{action}", form)).status == 404
    assert await state_of_card(desk.kit, card) == "Active"


async def test_without_the_token_nothing_is_done(desk: Desk, operator: Visitor, card: str) -> None:
    begun = await start(operator, card)
    form = (await operator.get(begun.location)).hidden(f"{begun.location}/next")
    refused = await operator.post(f"{begun.location}/next", form | {"csrf": "x" * 43, "Reason": "lost it"})
    assert refused.status == 403
    assert await state_of_card(desk.kit, card) == "Active"


async def test_a_missing_reason_is_said_at_its_field(desk: Desk, operator: Visitor, card: str) -> None:
    begun = await start(operator, card)
    page = await operator.get(begun.location)
    wrong = await operator.submit(page, f"{begun.location}/next", Reason=" a ")
    assert wrong.status == 422
    field = wrong.one("input", id="Reason")
    assert field.attributes["aria-invalid"] == "true"
    assert field.attributes["aria-describedby"] == "Reason-error Reason-meaning"
    assert "autofocus" in field.attributes
    assert "At least 3 characters" in wrong.one("p", id="Reason-error").text
    assert wrong.one("a", href="#Reason").text == "Reason"
    corrected = await operator.submit(wrong, f"{begun.location}/next", Reason=HOSTILE)
    assert corrected.location == begun.location
    done = await operator.get(begun.location)
    assert HOSTILE not in done.html
    assert HOSTILE in done.text
    assert not done.all("img")


async def test_locked_from_the_object_s_page_and_its_history_says_why(
    desk: Desk, operator: Visitor, card: str
) -> None:
    page = await operator.get(page_of(card))
    assert [item.text for item in page.all("button")] == ["Log out", "Lock"]
    begun = await operator.submit(page, "/processes")
    again = await operator.get(page_of(card))
    assert again.one("a", href=begun.location).text == "Lock: go on"
    form = await operator.get(begun.location)
    assert "ada@example.org" in form.text
    for _ in range(2):  # sent twice
        sent = await operator.submit(form, f"{begun.location}/next", Reason="reported lost")
        assert sent.location == begun.location
    done = await operator.get(begun.location)
    assert "Finished." in done.text
    assert done.one("a", href=page_of(card)).text == "Back to Card of ada@example.org"
    after = await operator.get(page_of(card))
    assert after.one("span", **{"class": "state state-locked"}).text == "Locked"
    assert "Why: reported lost" in after.text
    assert (
        "The virtual smart card is Locked. The state needed: Active or Inactive or Registered." in after.text
    )
    assert [item.text for item in after.all("button")] == ["Log out"]
    assert (await start(operator, card)).status == 409


async def test_two_operators_and_a_stale_page(desk: Desk, operator: Visitor, card: str) -> None:
    other = await desk.person("oscar@example.org", Role.OPERATOR)
    begun = [await start(visitor, card) for visitor in (operator, other)]
    pages = [await visitor.get(at.location) for visitor, at in zip((operator, other), begun, strict=True)]
    first = await operator.submit(pages[0], f"{begun[0].location}/next", Reason="lost it")
    assert first.location == begun[0].location
    late = await other.submit(pages[1], f"{begun[1].location}/next", Reason="lost it")
    assert late.status == 409
    assert "is Locked. The state needed: Active or Inactive or Registered." in late.text
    stale = pages[1].hidden(f"{begun[1].location}/next") | {"expected_version": "0", "Reason": "lost it"}
    assert (await other.post(f"{begun[1].location}/next", stale)).location == f"{begun[1].location}?stale"


async def test_the_second_person_finds_it_on_the_start_page(
    desk: Desk, ada: Session, operator: Visitor
) -> None:
    desk.kit.portal.engine.definitions[TwoPersons.name] = TwoPersons()
    certificate = await put_certificate(desk.kit, ada)
    page = await operator.get(f"/operator/objects/certificate/{certificate}")
    begun = await operator.submit(page, "/processes")
    path = begun.location
    await operator.submit(await operator.get(path), f"{path}/next", Reason="needed")
    assert "Somebody else has the next step" in (await operator.get(path)).text
    assert path not in (await operator.get("/start")).html
    approver = await desk.person("paul@example.org", Role.APPROVER)
    start = await approver.get("/start")
    assert start.all("a", href=path)
    assert "What waits for your agreement stands below." in start.text
    asked = await approver.get(path)
    assert "Asked byolga@example.org" in asked.text
    assert [item.attributes["value"] for item in asked.all("option")] == ["agree", "refuse"]
    await approver.submit(asked, f"{path}/next", Decision="agree")
    start = await approver.get("/start")
    assert path not in start.html
    assert "What waits for your agreement stands below: nothing does now." in start.text
    finished = await operator.submit(await operator.get(path), f"{path}/next")
    assert finished.location == path


async def test_an_operator_with_cards_who_enters_one_for_others_stays_with_the_process(desk: Desk) -> None:
    visitor = await desk.person("eve@example.org", Role.OPERATOR, Role.SELF_SERVICE)
    token = (await visitor.get("/start")).hidden("/logout")
    begun = await visitor.post("/processes", token | {"name": RequestTemporaryCard.name})
    page = await visitor.get(begun.location)
    finished = await visitor.submit(page, f"{begun.location}/next", Label="Visitor 7", Serial="4711")
    assert finished.location == begun.location
    assert "Finished." in (await visitor.get(begun.location)).text


async def test_own_cards_offer_what_is_possible(desk: Desk) -> None:
    for definition in (OwnCard(), LockCard()):
        desk.kit.portal.engine.definitions[definition.name] = definition
    visitor = await desk.person("eve@example.org", Role.SELF_SERVICE)
    session = await desk.kit.login("eve@example.org")
    card = await put_card(desk.kit, session)
    page = await visitor.get("/cards")
    assert [item.text for item in page.all("button")][-1] == "Own"
    begun = await visitor.submit(page, "/processes")
    finished = await visitor.submit(await visitor.get(begun.location), f"{begun.location}/next")
    assert (await visitor.get(finished.location)).all("a", href="/cards")
    await desk.kit.portal.accounts.set_state("eve@example.org", UserState.INACTIVE)
    inactive = await visitor.get("/cards")
    assert [item.text for item in inactive.all("button")] == ["Log out"]
    assert (await start(visitor, card, OwnCard.name)).status == 403
