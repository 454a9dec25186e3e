"""The operator's pages: refused first, then what they show, and that nothing in a name becomes a page's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from portal.model.states import Role, UserState
from portal.store import audit
from tests.support.staff_seed import MOMENT, card, certificate, device, process, revocation, user

if TYPE_CHECKING:
    from tests.portal.web.desk import Desk
    from tests.portal.web.visitor import Page, Visitor

SEARCH = "/operator/search"
CSV = "/operator/search.csv"
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
async def operator(desk: Desk) -> Visitor:
    """An operator, and a few objects."""
    async with desk.kit.database.write() as tx:
        tx.add_all([user("eve", name=f'=cmd|{HOSTILE}"'), device("jkt-1", name=HOSTILE)])
        await tx.flush()
        tx.add_all(
            [
                card("card1", "eve", label=f"=1+1 {HOSTILE}", device_jkt="jkt-1", restored_at=MOMENT),
                certificate("cert1", "eve", state="Issued", serial="3fa1c27b"),
                process("proc1", "eve", state="failed", error={"error": "user_cancelled", "fields": {}}),
            ]
        )
        await tx.flush()
        tx.add(revocation("cert1"))
        for action, why in (("card.registered", ""), ("card.unheard_of", HOSTILE)):
            details = {"reason": why} if why else {"order": "order1"}
            await audit.record(
                tx,
                at=MOMENT,
                actor="device:jkt-1",
                action=action,
                kind="virtual_smart_card",
                object_id="card1",
                **details,
            )
    return await desk.person("op@example.org", Role.OPERATOR)


def alone(page: Page) -> Page:
    """No element came of what people wrote."""
    assert HOSTILE not in page.html
    assert not page.all("script")
    return page


_PAGES = [
    SEARCH,
    f"{SEARCH}?kind=user",
    "/operator/objects/user/eve",
    "/operator/objects/virtual_smart_card/card1",
]


@pytest.mark.parametrize("roles", [[Role.SELF_SERVICE], [Role.APPROVER], []])
async def test_others_are_refused_page_and_post(desk: Desk, operator: Visitor, roles: list[Role]) -> None:
    other = await desk.person("other@example.org", *roles)
    for path in _PAGES:
        page = await other.get(path)
        assert page.status == 403
        assert "eve" not in page.html
    token = (await other.get("/start")).hidden("/logout")
    refused = await other.post(CSV, token | {"kind": "user"})
    assert refused.status == 403
    assert "@example.org" not in refused.html.replace("other@example.org", "")
    assert SEARCH not in (await other.get("/start")).html


async def test_administrators_find_people_and_devices_and_nothing_else(desk: Desk, operator: Visitor) -> None:
    root = await desk.person("root@example.org", Role.ADMINISTRATOR)
    start = alone(await root.get(SEARCH))
    tabs = [
        item.attributes["href"] for item in start.all("a") if item.attributes["href"].startswith("?kind=")
    ]
    assert set(tabs) == {"?kind=user", "?kind=device"}
    assert "eve@example.org" in start.text
    assert (await root.get("/operator/objects/user/eve")).all("a", href="/admin/users/eve")
    assert (await root.get("/operator/objects/device/jkt-1")).status == 200
    for path in ("/operator/objects/virtual_smart_card/card1", f"{SEARCH}?kind=certificate"):
        assert (await root.get(path)).status == 403
    refused = await root.post(CSV, start.hidden(CSV) | {"kind": "certificate"})
    assert refused.status == 403


async def test_without_a_session_to_the_log_in(desk: Desk) -> None:
    for path in _PAGES:
        page = await desk.stranger().get(path)
        assert (page.status, page.location.partition("?")[0]) == (303, "/login")
    assert (await desk.stranger().post(CSV, {"kind": "user"})).location == "/login"


async def test_a_role_that_was_taken_or_an_account_that_was_closed_counts_at_once(
    desk: Desk, operator: Visitor
) -> None:
    await desk.kit.portal.accounts.set_state("op@example.org", UserState.INACTIVE)
    assert (await operator.get(SEARCH)).status == 403
    await desk.kit.portal.accounts.set_state("op@example.org", UserState.LOCKED)
    assert (await operator.get(SEARCH)).status == 303


async def test_an_export_needs_the_page_s_token_and_origin(desk: Desk, operator: Visitor) -> None:
    page = await operator.get(f"{SEARCH}?kind=user")
    form = page.hidden(CSV)
    assert form["kind"] == "user"
    for changed, origin in (
        ({"csrf": "x" * 43}, ""),
        ({}, "https://evil.example"),
        ({}, None),
    ):
        refused = await operator.post(CSV, form | changed, origin)
        assert refused.status == 403
        assert "eve@example.org" not in refused.html


@pytest.mark.parametrize(
    "path",
    [
        f"{SEARCH}?kind=secrets",
        "/operator/objects/user/nobody",
        "/operator/objects/card/card1",
        "/operator/objects/audit/1",
        "/operator/objects/virtual_smart_card/..%2f..%2fetc",
    ],
)
async def test_what_is_not_there(operator: Visitor, path: str) -> None:
    assert (await operator.get(path)).status == 404


async def test_a_faulty_filter_is_said_at_its_field_and_nothing_is_lost(operator: Visitor) -> None:
    page = await operator.get(
        f"{SEARCH}?kind=certificate&expires_from=soon&state=Nonsense&text=%22%3E{HOSTILE}"
    )
    alone(page)
    assert page.status == 422
    for name in ("expires_from", "state"):
        field = page.one("*", id=name)
        assert field.attributes["aria-invalid"] == "true"
        assert f"{name}-error" in field.attributes["aria-describedby"].split()
        assert page.one("p", id=f"{name}-error").text.strip()
    assert page.one("*", id="text").attributes["value"] == f'">{HOSTILE}'
    assert [item.attributes["id"] for item in page.all("*", autofocus="")] == ["state"]
    assert page.one("input", id="expires_from").attributes["value"] == "soon"
    assert not page.all("table")


async def test_a_huge_filter(operator: Visitor) -> None:
    page = await operator.get(f"{SEARCH}?kind=user&text={'x' * 3000}")
    assert page.status == 422
    assert "At most 200" in page.text
    assert len(page.one("input", id="text").attributes["value"]) <= 400
    assert (await operator.get(f"{SEARCH}?kind=user&text={'x' * 9000}")).status == 400


async def test_wildcards_are_letters(operator: Visitor) -> None:
    for text in ("%25", "_", "%25example%25", "%5C", "' OR '1'='1"):
        assert "0 found" in (await operator.get(f"{SEARCH}?kind=user&text={text}")).text


async def test_search_shows_and_links_what_it_finds(operator: Visitor) -> None:
    page = alone(await operator.get(f"{SEARCH}?kind=certificate&text=eve&state=Issued"))
    assert "1 found" in page.text
    assert [item.text for item in page.all("option", selected="")] == ["Issued"]
    row = page.one("tbody")
    assert "Revocation pending" in row.text
    assert page.one("a", href="/operator/objects/certificate/cert1").text == "3fa1c27b"
    other_kind = [item.attributes["href"] for item in page.all("a") if item.text == "Users"]
    assert other_kind == ["?kind=user&text=eve"]


async def test_a_card_s_page(operator: Visitor) -> None:
    page = alone(await operator.get("/operator/objects/virtual_smart_card/card1"))
    assert page.one("h1").text == f"=1+1 {HOSTILE}"
    assert "an old copy was put back" in page.text
    assert page.all("a", href="/operator/objects/user/eve")
    history = page.one("ol", **{"class": "timeline"}).text
    assert "Registered" in history
    assert "card.unheard_of" in history
    assert f"Why: {HOSTILE}" in history
    assert f"device {HOSTILE}" in history
    headings = [int(item.name[1]) for item in page.all("*") if item.name in ("h1", "h2", "h3")]
    assert headings[0] == 1
    assert max(headings) == 2


async def test_the_other_pages(operator: Visitor) -> None:
    person = alone(await operator.get("/operator/objects/user/eve"))
    assert person.all("a", href="/operator/objects/virtual_smart_card/card1")
    held = alone(await operator.get("/operator/objects/certificate/cert1"))
    assert "Revocation pending since 2027-01-15 08:00 UTC" in held.text
    machine = alone(await operator.get("/operator/objects/device/jkt-1"))
    assert machine.all("a", href="/operator/objects/virtual_smart_card/card1")
    ran = alone(await operator.get("/operator/objects/process/proc1"))
    assert "You cancelled." in ran.text


@pytest.mark.parametrize("change", ["hold", "release"])
async def test_a_hold_that_waits_is_not_called_a_revocation(
    desk: Desk, operator: Visitor, change: str
) -> None:
    """On the certificate's page and in the search."""
    async with desk.kit.database.write() as tx:
        tx.add(certificate("cert2", "eve", serial="77aa"))
        await tx.flush()
        tx.add(revocation("cert2", change=change))
    page = await operator.get("/operator/objects/certificate/cert2")
    assert f"{change.capitalize()} pending since 2027-01-15 08:00 UTC" in page.text
    assert "Revocation pending" not in page.text
    found = (await operator.get(f"{SEARCH}?kind=certificate&text=77aa")).one("tbody").text
    assert f"{change.capitalize()} pending" in found
    assert "Revocation pending" not in found


async def test_a_long_history_in_parts(desk: Desk, operator: Visitor) -> None:
    async with desk.kit.database.write() as tx:
        for number in range(120):
            await audit.record(
                tx, at=MOMENT, actor="portal", action=f"x.{number}", kind="user", object_id="eve"
            )
    first = await operator.get("/operator/objects/user/eve")
    assert "x.119" in first.text
    assert "x.19" not in first.text
    older = first.one("a", rel="next").attributes["href"]
    second = await operator.get("/operator/objects/user/eve" + older)
    assert "x.19" in second.text
    assert "x.119" not in second.text
    assert (await operator.get("/operator/objects/user/eve?before=nonsense")).status == 200


async def test_an_export_is_what_the_page_asked_and_computes_nothing(operator: Visitor) -> None:
    page = await operator.get(f"{SEARCH}?kind=virtual_smart_card&text=eve")
    sent = await operator.submit(page, CSV)
    assert sent.status == 200
    assert sent.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert sent.headers["Content-Disposition"] == 'attachment; filename="virtual_smart_card.csv"'
    lines = sent.html.splitlines()
    assert lines[0].startswith('\ufeff"Id","Label"')
    assert lines[1].startswith(f'"card1","\'=1+1 {HOSTILE}","eve@example.org"')
    assert len(lines) == 2
    history = await operator.post(CSV, page.hidden(CSV) | {"state": "Nonsense"})
    assert history.status == 400


async def test_every_field_has_its_label_and_every_kind_its_page(operator: Visitor) -> None:
    start = await operator.get(SEARCH)
    tabs = [
        item.attributes["href"] for item in start.all("a") if item.attributes["href"].startswith("?kind=")
    ]
    assert len(set(tabs)) == 8
    for tab in set(tabs):
        page = await operator.get(SEARCH + tab)
        assert page.status == 200
        labels = {item.attributes["for"] for item in page.all("label")}
        fields = {
            item.attributes["id"]
            for item in page.all("*")
            if item.name in ("input", "select") and "id" in item.attributes
        }
        assert fields == labels
