"""Change PIN and delete from page to page, every part real: what other programs find on the card afterwards."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.support.card_checks import CardChecks, CheckFailed
from tests.support.person import DETAILS_TITLE
from tests.support.processes import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.browser.conftest import UseCase
    from tests.support.person import Person

NEW_PIN = "864209"
CHANGE_TITLE = r"^Change the PIN of your card - Inlay$"
CHANGED_TITLE = r"^The PIN is changed - Inlay$"
SLIP = "The PIN is wrong. 2 tries are left: after one more wrong PIN there is only the last one."
DELETE_TITLE = r"^Delete your card - Inlay$"
DELETED_TITLE = r"^The card is deleted - Inlay$"

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]


async def get_card(use_case: UseCase, person: Person) -> None:
    """The use case *Get virtual smart card*, to the cards page; afterwards the portal knows this device."""
    await person.begin()
    await person.open_inlay(question=True)
    await person.enter_pin(use_case.pin)
    await person.type_number(await person.number())
    await person.close_window(DETAILS_TITLE)
    await person.see_step("Details")
    await person.next()
    await person.page.wait_for_url("**/cards")


async def begin(person: Person, process: str) -> None:
    """From the card on its page to Inlay's window."""
    await person.click(f"button:has-text('{process}')")
    await person.page.wait_for_url("**/processes/*")
    await person.next()
    await person.page.wait_for_selector("#order[data-found]")
    await person.open_inlay(question=True)


async def types(person: Person, title: str, *lines: str) -> None:
    """Fill in the fields of Inlay's window, one after the other."""
    await person.field(title)
    for line in lines:
        await person.type(line, "Return")


def log_in(use_case: UseCase, folder: Path, pin: str) -> str:
    """What OpenSC finds on the card with a PIN."""
    (card,) = use_case.cards()
    return CardChecks(card["reader"], folder, pin).log_in()


async def test_the_pin_that_was_chosen_is_the_one_that_other_programs_need(
    use_case: UseCase, tmp_path: Path
) -> None:
    """A slip first, which the window says and asks again; the portal and the agent never write a PIN anywhere."""
    async with use_case.browser() as person:
        await get_card(use_case, person)
        await begin(person, "Change PIN")
        await types(
            person, CHANGE_TITLE, "000000" if use_case.pin != "000000" else "111111", NEW_PIN, NEW_PIN
        )
        await person.reads(SLIP, title=CHANGE_TITLE)
        await types(person, CHANGE_TITLE, use_case.pin, NEW_PIN, NEW_PIN)
        await person.reads("The new PIN is the one to type from now on", title=CHANGED_TITLE)
        await person.close_window(CHANGED_TITLE)
        await person.see_step("Details")
        await person.next()
        await person.see("Finished.")
    shown = use_case.desk.agent.ask("cards", "show")["cards"][0]
    assert (shown["pin_tries"], shown["puk_tries"]) == (3, 3)
    with pytest.raises(CheckFailed, match="CKR_PIN_INCORRECT"):
        await asyncio.to_thread(log_in, use_case, tmp_path, use_case.pin)
    assert "Private Key Object" in await asyncio.to_thread(log_in, use_case, tmp_path, NEW_PIN)
    assert NEW_PIN not in use_case.desk.agent.logs()
    assert NEW_PIN not in use_case.site.portal.log_file.read_text()


async def test_a_deleted_card_is_gone_from_reader_disk_and_ca(use_case: UseCase) -> None:
    portal = use_case.site.portal
    portal.command("options", "--set=DeleteBySelfService=true")
    try:
        async with use_case.browser() as person:
            await get_card(use_case, person)
            await begin(person, "Delete")
            await person.reads("That can't be undone.", "Type “delete” to confirm", title=DELETE_TITLE)
            await types(person, DELETE_TITLE, "delete")
            await person.close_window(DELETED_TITLE)
            await person.see_step("Details")
            await person.next()
            await person.see("Finished.")
    finally:
        portal.command("options", "--set=DeleteBySelfService=false")
    await asyncio.to_thread(
        wait_until, lambda: not any(use_case.issued().values()), "the certificates revoked", seconds=20
    )
    assert len(use_case.issued()) == 3
    use_case.assert_nothing_left()
