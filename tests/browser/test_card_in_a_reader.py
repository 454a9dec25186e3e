"""What a person does with a card in a reader, from the page of each use case to the card; then it is taken back.

Every part is real: Chromium, portal, agent, window, pcscd with vpcd. Another card is in the first reader throughout.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.browser.test_change_pin_and_delete import types
from tests.browser.test_extend_temporary_card import SCRIPT, agree, assigned, card_page, picks, start
from tests.browser.test_extend_temporary_card import TITLE as ENCODE_TITLE
from tests.cards.profiles import PROFILES
from tests.cards.simulated import PIN as FACTORY_PIN
from tests.cards.simulated import SimulatedCard
from tests.support.browser import Policies
from tests.support.person import ENCODED_TITLE
from tests.support.processes import wait_until
from tests.support.wired_card import WiredCard

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from tests.browser.conftest import UseCase
    from tests.support.pcscd import PrivatePcscd
    from tests.support.person import Person
    from tests.support.portal_process import Account
    from tests.support.stack import Site

CHANGE, UNBLOCK = r"^Change the PIN of your card - Inlay$", r"^Unblock your card - Inlay$"
CHECK, SIGN = r"^Show that you have your card - Inlay$", r"^Sign a document - Inlay$"
FIRST, SECOND, THIRD, WRONG = "246810", "135792", "864213", "999990"

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]


@pytest.fixture
def roles() -> tuple[str, ...]:
    return "operator", "self-service"


@pytest.fixture
def encoding(site: Site) -> Iterator[Future[str]]:
    """Temporary cards are encoded: set while the desk is made ready, and taken back."""
    wanted = {"Encode": "true", "KeyAlgorithm": "P-256", "Certificates": "authentication,signature"}
    unset = {"Encode": "false", "Certificates": "authentication"}
    with ThreadPoolExecutor(1) as aside:
        yield aside.submit(set_options, site, wanted)
        aside.submit(set_options, site, unset).result()


def set_options(site: Site, wanted: dict[str, str]) -> str:
    return site.portal.command(
        "options", SCRIPT, *(f"--set=TempCards{name}={value}" for name, value in wanted.items())
    )


@pytest.fixture
def holder(encoding: Future[str], use_case: UseCase) -> Account:
    """An operator who is given a temporary card; cards are encoded."""
    encoding.result()
    return use_case.user


async def own_card(person: Person, process: str, *, action: str = "", text: str = "") -> None:
    """From the card on its holder's page to Inlay's window."""
    await person.page.goto(re.sub(r"(https://[^/]+).*", r"\1/cards", person.page.url))
    await person.click(f"button:has-text('{process}')")
    await person.page.wait_for_url("**/processes/*")
    if action:
        await person.page.get_by_label("What is to be done").select_option(label=action)
    if text:
        await person.page.get_by_label("Text").fill(text)
    await person.next()
    await person.page.wait_for_selector("#order[data-found]")
    await person.open_inlay(question=False)


async def done(person: Person, title: str) -> None:
    """Close the window's last page; the page has followed by itself."""
    await person.close_window(title)
    await person.see_step("Details")
    await person.next()
    await person.see("Finished.")


async def encoded(person: Person, label: str) -> None:
    """The card gets keys, certificates and its first PIN."""
    await card_page(person, label, "Assigned")
    await start(person, "Extend temporary card")
    await person.page.wait_for_selector("#order[data-found]")
    await person.open_inlay(question=False)
    await types(person, ENCODE_TITLE, FIRST, FIRST)
    await person.type_number(await person.number())
    await picks(person, 2)
    await done(person, ENCODED_TITLE)


def padded(pin: str) -> bytes:
    return pin.encode().ljust(8, b"\xff")


async def test_pin_check_and_signature_then_the_card_is_withdrawn_and_locked(
    use_case: UseCase, holder: Account, pcscd: PrivatePcscd
) -> None:
    """Of two cards in two readers the right one is worked on; a slip costs a try, and the window says so."""
    label, portal = f"Visitor {secrets.token_hex(2)}", use_case.site.portal
    blank, other = (SimulatedCard(PROFILES[0]) for _ in range(2))
    del blank.objects[0x5FC102]
    with WiredCard.simulated(pcscd.vpcd_ports[0], other), WiredCard.simulated(pcscd.vpcd_ports[1], blank):
        # as an administrator sets it: the browser's own question is answered in the neighbours
        opens = Policies().launch_links("inlay", use_case.address.origin)
        async with use_case.browser(opens) as person:
            await assigned(person, label, holder)
            await encoded(person, label)
            assert blank.pin == padded(FIRST)

            await own_card(person, "Unblock or change PIN", action="Change the PIN: I know it")
            await agree(person, CHANGE)
            await types(person, CHANGE, WRONG, SECOND, SECOND)
            await asyncio.to_thread(
                wait_until, lambda: blank.pin_left == blank.profile.pin_tries - 1, "the slip"
            )
            await person.reads("The PIN is wrong.", title=CHANGE)
            await types(person, CHANGE, FIRST, SECOND, SECOND)
            await done(person, r"^The PIN is changed - Inlay$")
            assert (blank.pin, blank.pin_left) == (padded(SECOND), blank.profile.pin_tries)

            await own_card(person, "Check card")
            await agree(person, CHECK)
            await person.type_number(await person.number())
            await types(person, CHECK, SECOND)
            await done(person, r"^The portal knows your card - Inlay$")
            await person.see("The card works: PIN, key and certificate are good.")

            blank.pin_left = 0  # as after too many slips at another program
            await own_card(person, "Unblock or change PIN", action="Unblock: I don't know it")
            await agree(person, UNBLOCK)
            await person.type_number(await person.number())
            await types(person, UNBLOCK, THIRD, THIRD)
            await done(person, r"^The card is unblocked - Inlay$")
            assert (blank.pin, blank.pin_left) == (padded(THIRD), blank.profile.pin_tries)

            await own_card(person, "Sign", text="I have read the rules.")
            await agree(person, SIGN)
            await person.type_number(await person.number())
            await types(person, SIGN, THIRD)
            await done(person, r"^The document is signed - Inlay$")
            await person.see("ES256")

            assert sorted(use_case.issued().values()) == [True, True]
            await ended(person, label, "Assigned", "Withdraw", "the visit is over")
            await ended(person, label, "Unassigned", "Lock", "it is worn out")
            await person.page.goto(re.sub(r"(https://[^/]+).*", r"\1/cards", person.page.url))
            await person.see("You have no card yet.")
    assert (other.pin, other.keys) == (padded(FACTORY_PIN.decode()), {})
    await asyncio.to_thread(revoked, use_case)
    for pin in (FIRST, SECOND, THIRD, WRONG):
        assert pin not in use_case.desk.agent.logs()
        assert pin not in portal.log_file.read_text()


async def ended(person: Person, label: str, state: str, process: str, reason: str) -> None:
    """An operator's process that ends a card's use."""
    await card_page(person, label, state)
    await start(person, process, reason)
    await person.see("Finished.")


def revoked(use_case: UseCase) -> None:
    """The CA has none of the card's certificates as good any more."""
    wait_until(lambda: not any(use_case.issued().values()), "the certificates revoked", seconds=20)
    assert len(use_case.issued()) == 2
