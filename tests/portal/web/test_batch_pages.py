"""The pages of batches: refused first, then ordered, made, repeated and closed by their forms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from portal.model.states import Role
from portal.processes.issue_multiple_temporary_cards import IssueMultipleTemporaryCards
from tests.support.batch_orders import batch_of, begun, torn, written

if TYPE_CHECKING:
    from portal.views import Session
    from tests.portal.web.desk import Desk
    from tests.portal.web.visitor import Page, Visitor

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
async def operator(desk: Desk) -> Visitor:
    return await desk.person("olga@example.org", Role.OPERATOR)


@pytest.fixture
async def olga(desk: Desk, operator: Visitor) -> Session:
    """The same operator, as services see her."""
    found = await desk.kit.services.session(operator.cookies["__Host-inlay-session"])
    assert found is not None
    return found


@pytest.fixture
async def batch(desk: Desk, olga: Session) -> str:
    return f"/operator/batches/{await batch_of(desk.kit, olga, 3)}"


async def posted(visitor: Visitor, path: str, **fields: str) -> Page:
    token = (await visitor.get("/start")).hidden("/logout")
    return await visitor.post(path, token | fields)


@pytest.mark.parametrize("role", [Role.SELF_SERVICE, Role.APPROVER, Role.ADMINISTRATOR])
async def test_batches_are_operators_alone(desk: Desk, batch: str, role: Role) -> None:
    visitor = await desk.person("eve@example.org", role)
    assert "/operator/batches" not in [
        link.attributes.get("href") for link in (await visitor.get("/start")).all("a")
    ]
    for path in ("/operator/batches", batch):
        assert (await visitor.get(path)).status == 403
    for action in ("complete", "repeat", "close"):
        page = await posted(visitor, f"{batch}/{action}", Reason="because", card="x")
        assert page.status == 403
    assert (await posted(visitor, "/processes", name=IssueMultipleTemporaryCards.name)).status == 403


async def test_without_the_token_or_for_what_is_not_there_nothing_is_done(
    desk: Desk, operator: Visitor, olga: Session, batch: str
) -> None:
    for action in ("complete", "repeat", "close"):
        assert (
            await operator.post(f"{batch}/{action}", {"csrf": "x" * 43, "Reason": "because"})
        ).status == 403
        assert (await posted(operator, f"/operator/batches/{'ab' * 16}/{action}", card="x")).status == 404
    assert (await operator.get("/operator/batches/nothing")).status == 404
    assert (await posted(operator, "/operator/batches/next", process="x" * 32)).status == 404
    other = await desk.kit.services.start_process(olga, IssueMultipleTemporaryCards.name)
    assert (await posted(operator, "/operator/batches/next", process=other.id)).status == 409
    assert (await operator.get(batch)).text.count("Requested") >= 3


async def test_what_is_wrong_is_said_at_its_field(operator: Visitor, batch: str) -> None:
    page = await operator.get(batch)
    wrong = await operator.submit(page, f"{batch}/close", Reason=" a ")
    assert wrong.status == 422
    field = wrong.one("input", id="Reason")
    assert (field.attributes["aria-invalid"], field.attributes["aria-describedby"]) == (
        "true",
        "Reason-error",
    )
    assert "At least 3 characters" in wrong.one("p", id="Reason-error").text
    nothing = await operator.submit(page, f"{batch}/repeat")
    assert nothing.status == 422
    assert "Choose at least one card." in nothing.text


async def test_a_batch_from_its_order_to_its_end_by_its_pages(
    desk: Desk, operator: Visitor, olga: Session
) -> None:
    """A name is never markup; a card that is made leads to the next one, and the end back to the batch."""
    start = await operator.get("/start")
    begun_ = await operator.submit(start, "/processes", name=IssueMultipleTemporaryCards.name)
    form = await operator.get(begun_.location)
    done = await operator.submit(form, f"{begun_.location}/next", Label=HOSTILE, Count="2", First="1")
    assert done.location.startswith("/operator/batches/")
    page = await operator.get(done.location)
    assert HOSTILE in page.text
    assert not page.all("img")
    first = await operator.submit(page, f"{done.location}/complete")
    shown = await operator.get(first.location)
    assert "card 1 of 2" in shown.text
    assert "data-goes-on" not in shown.one("div", id="order").attributes
    agent, _ = await begun(desk.kit, olga, first.location.rpartition("/")[2])
    await torn(desk.kit, agent, "7001")
    failed = await operator.get(first.location)
    assert "The card is gone." in failed.text
    second = await operator.submit(failed, "/operator/batches/next")
    assert second.location.endswith("#content")  # what is new has the keyboard
    second_card = second.location.removesuffix("#content")
    shown = await operator.get(second_card)
    assert "card 2 of 2" in shown.one("title").text
    assert shown.one("div", id="order").attributes["data-goes-on"] == "true"
    agent, _ = await begun(desk.kit, olga, second_card.rpartition("/")[2], agent)
    await written(agent, "7002")
    ready = await operator.get(second_card)
    assert ready.one("script").attributes["src"].endswith("/next_card.js")
    back = await operator.submit(ready, "/operator/batches/next")
    assert back.location == f"{done.location}#content"
    page = await operator.get(done.location)
    (ticked,) = [item for item in page.all("input", type="checkbox") if "checked" in item.attributes]
    again = await operator.submit(
        page, f"{done.location}/repeat", card=ticked.attributes["value"], piece="another"
    )
    agent, _ = await begun(desk.kit, olga, again.location.rpartition("/")[2], agent)
    await written(agent, "7003")
    back = await operator.submit(await operator.get(again.location), "/operator/batches/next")
    page = await operator.get(back.location)
    assert "All cards are produced." in page.text
    assert not page.all("input", id="Reason")
    await operator.submit(page, f"{done.location}/complete")
    closed = await operator.get(done.location)
    assert "Closed" in closed.text
    assert [item.text for item in closed.all("button")] == ["Log out"]
    assert "Closed" in (await operator.get("/operator/batches")).text


async def test_a_card_that_a_colleague_makes_is_left_to_him_and_the_page_says_so(
    desk: Desk, operator: Visitor, olga: Session
) -> None:
    batch = f"/operator/batches/{await batch_of(desk.kit, olga, 1)}"
    await operator.submit(await operator.get(batch), f"{batch}/complete")
    other = await desk.person("otto@example.org", Role.OPERATOR)
    page = await other.submit(await other.get(batch), f"{batch}/complete")
    assert page.location == f"{batch}?waiting"
    assert "are being made by others" in (await other.get(page.location)).text
    assert "Taken by olga@example.org." in (await other.get(batch)).text
