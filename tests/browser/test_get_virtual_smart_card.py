"""The whole use case with every part real, for each state of the browser's loopback permission."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.person import DETAILS_TITLE

if TYPE_CHECKING:
    from tests.browser.conftest import UseCase
    from tests.support.person import Person

pytestmark = [pytest.mark.browser, pytest.mark.timeout(90)]


async def _get_card(use_case: UseCase, person: Person, *, question: bool) -> str:
    """From the start page to the cards page; returns the path that the page took."""
    await person.begin()
    await person.open_inlay(question=question)
    await person.enter_pin(use_case.pin)
    path = await person.path_taken()
    await person.type_number(await person.number())
    await person.close_window(DETAILS_TITLE)
    await person.see_step("Details")
    await person.next()
    await person.page.wait_for_url("**/cards")
    await person.see("Active")
    return path


async def test_permission_undecided(use_case: UseCase) -> None:
    """Nothing decided: the link, at once, and no question about loopback."""
    async with use_case.browser() as person:
        path = await _get_card(use_case, person, question=True)
    assert path == "link"
    assert [card["state"] for card in use_case.cards()] == ["active"]
