"""Pages of a card's processes: who refused sees that, who asked is told, and unprinted letters are found again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portal.model.states import Role
from portal.processes import card_descriptions
from tests.support import issued_cards as cards

if TYPE_CHECKING:
    from tests.portal.web.desk import Desk
    from tests.support.portal_kit import Kit

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
    asked = await anna.get(path)
    assert [(item.attributes["value"], item.text) for item in asked.all("option")] == [
        ("approve", "Approve the card"),
        ("reject", "Reject the card"),
    ]
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
        assert "Decisionrejected" in page.text


async def test_a_choice_that_there_is_not_is_answered_in_the_words_of_the_page(desk: Desk) -> None:
    ada = await desk.kit.person("ada@example.org")
    otto = await desk.person("otto@example.org", Role.OPERATOR)
    anna = await desk.person("anna@example.org", Role.APPROVER)
    found = await otto.get(f"/operator/objects/user/{ada.user.id}")
    path = (await otto.post("/processes", found.hidden("/processes"))).location
    await otto.submit(await otto.get(path), f"{path}/next", Label="Badge", Reason="new here")
    for wrong in ("", "Approve the card", "perhaps"):
        page = await anna.submit(await anna.get(path), f"{path}/next", Decision=wrong)
        assert page.status == 422
        said = "One of “Approve the card”, “Reject the card” is needed."
        assert said in page.text


def test_each_choice_of_each_process_has_words_of_its_own(kit: Kit) -> None:
    """But for kinds of cards, which have names already."""
    fields = [
        field
        for definition in kit.portal.engine.definitions.values()
        for step in definition.steps
        for field in step.form.options
        if field.choices and field.name != card_descriptions.CHOICE
    ]
    assert {"Action", "Decision", "PUK", "Reason"} <= {field.name for field in fields}
    for field in fields:
        assert set(field.captions) == set(field.choices), field.name
        words = [field.caption(choice) for choice in field.choices]
        assert len(set(words)) == len(words)
        assert not set(words) & set(field.choices)
        assert max(map(len, words)) <= 28, "more is cut off at 360 pixels"


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
