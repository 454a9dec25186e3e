"""Pages of a card's processes: who refused sees that, who asked is told, and unprinted letters are found again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portal.model.states import Role
from tests.support import issued_cards as cards

if TYPE_CHECKING:
    from tests.portal.web.desk import Desk

REFUSED = "You have refused this."
TOLD = "This was not agreed to."


async def test_who_refuses_a_card_is_told_so_and_who_asked_is_told_whom_to_ask(desk: Desk) -> None:
    ada = await desk.kit.person("ada@example.org")
    otto = await desk.person("otto@example.org", Role.OPERATOR)
    anna = await desk.person("anna@example.org", Role.APPROVER)
    found = await otto.get(f"/operator/objects/user/{ada.user.id}")
    begun = await otto.post("/processes", found.hidden("/processes"))
    path = begun.location
    await otto.submit(await otto.get(path), f"{path}/next", Label="Badge", Reason="new here")
    await anna.submit(await anna.get(path), f"{path}/next", Decision="reject")
    seen, asked = await anna.get(path), await otto.get(path)
    assert REFUSED in seen.text
    assert TOLD not in seen.text
    assert seen.all("a", href="/start")
    assert TOLD in asked.text
    assert REFUSED not in asked.text
    for page in (seen, asked):
        assert "What it was about" in page.text
        assert "Badge" in page.text


async def test_an_object_is_named_once_by_what_it_is(desk: Desk) -> None:
    """And whose it is only where that says more."""
    ada = await desk.kit.person("ada@example.org")
    olga = await desk.person("olga@example.org", Role.OPERATOR)
    found = await olga.get(f"/operator/objects/user/{ada.user.id}")
    page = await olga.get((await olga.post("/processes", found.hidden("/processes"))).location)
    assert page.text.count("ada@example.org") == 1
    assert "Personada@example.org" in page.text


async def test_letters_that_were_not_printed_are_reached_from_the_refusal_and_from_the_card(
    desk: Desk,
) -> None:
    people, ada = await cards.staff(desk.kit), await desk.kit.person("ada@example.org")
    olga = await desk.login("olga@example.org")
    card, work = await cards.issued(desk.kit, people, ada)
    path = f"/processes/{work.view.id}"
    refused = await olga.submit(await olga.get(path), f"{path}/next")
    assert refused.status == 409
    assert "A letter was not printed yet." in refused.text
    assert refused.all("a", href=path)
    page = await olga.get(f"/operator/objects/card/{card}")
    assert page.one("a", href=path).text == "Issue card: go on"
    await desk.kit.services.letter(people.olga, work.view.id, "pin")
    ended = await olga.submit(await olga.get(path), f"{path}/next")
    assert ended.location == path
    page = await olga.get(f"/operator/objects/card/{card}")
    assert not page.all("a", href=path)
    assert "The card is Issued. The state needed: Approved or Failed." in page.text
