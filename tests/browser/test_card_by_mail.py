"""Cards for good by the ways that a letter isn't: PIN and PUK by mail, a PIN that nobody is told, and what goes wrong.

Every part is real: Chromium, portal, agent, window, pcscd with vpcd, and a mail server that takes nothing before TLS.
"""

from __future__ import annotations

import asyncio
import email
import re
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from yubikit.core import InvalidPinError
from yubikit.piv import SLOT

from tests.browser.test_card_for_good import CHANGE, CHANGED, ENCODE, KNOWN, READY, SHOW, wrong
from tests.browser.test_change_pin_and_delete import types
from tests.support.card_desk import WANTED, CardDesk, card_desk, card_from_its_maker, set_options
from tests.support.card_slot import CardSlot
from tests.support.foreign_personaliser import Personaliser
from tests.support.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from agent.vsc.card import VirtualCard
    from tests.support.display import VirtualDisplay
    from tests.support.mail_server import MailServer
    from tests.support.pcscd import PrivatePcscd
    from tests.support.portal_process import Account
    from tests.support.stack import Site

BADGE, SPARE, NOT_WANTED = "Badge of Ada", "Spare badge of Ada", "Badge of Olga"
UNBLOCK, UNBLOCKED = r"^Unblock your card - Inlay$", r"^The card is unblocked - Inlay$"
CANCELLED = r"^Cancelled in the portal\. - Inlay$"
PIN_BLOCKED, BOTH = r"^The PIN is blocked\. - Inlay$", r"^PIN and PUK of the card are blocked\. - Inlay$"
TWO_LEFT = "2 tries are left: after one more wrong PIN there is only the last one."
LAST_LEFT = "This is the last try: one more wrong PIN blocks the card, and only its PUK helps then."
CHOSEN, LAST = "864213", "975310"
BY_PUK = "Unblock: I don't know it"
BIG = 100
"""More bytes than a command has that brings no certificate."""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.interop,
    pytest.mark.timeout(360),
    pytest.mark.asyncio(loop_scope="module"),
]
lasting = pytest_asyncio.fixture(scope="module", loop_scope="module")


@pytest.fixture(scope="module")
def slot(pcscd: PrivatePcscd) -> Iterator[CardSlot]:
    with CardSlot(pcscd.vpcd_ports[0], pcscd.readers[0]) as running:
        yield running


@lasting
async def desk(
    site: Site, screen: VirtualDisplay, pcscd: PrivatePcscd, slot: CardSlot
) -> AsyncIterator[CardDesk]:
    """At first PINs go by mail, and PUKs stay with the portal."""
    folder = Path(tempfile.mkdtemp(prefix="desk-"))

    def insert(card: VirtualCard, _port: int) -> CardSlot:
        slot.put(card)
        return slot

    wanted = WANTED | {"PINDelivery": "email", "PUKDelivery": "nopuk"}
    try:
        async with card_desk(site, screen, pcscd, folder, wanted, insert) as running:
            yield running
    finally:
        shutil.rmtree(folder)


@lasting
async def approved(desk: CardDesk) -> CardDesk:
    """Ada's card was rejected, asked for again, and approved; another one was approved and is aborted."""
    ada, olga = desk.people.ada, desk.people.olga
    await requested(desk, BADGE, ada)
    await requested(desk, NOT_WANTED, olga)
    await decided(desk, ada, "Reject the card", "You have refused this.")
    await decided(desk, olga, "Approve the card", "Finished.")
    await desk.sits_down(olga)
    await ended_as(desk, NOT_WANTED, "Abort", "Aborted")
    await requested(desk, BADGE, ada)
    await decided(desk, ada, "Approve the card", "Finished.")
    return desk


@lasting
async def issued(approved: CardDesk, slot: CardSlot, mails: MailServer) -> CardDesk:
    """Torn out and given up in the middle Ada's card is Failed; a fresh order finishes it, and a mail tells its PIN."""
    desk = approved
    person = await desk.sits_down(desk.people.olga)
    await begins_issuing(desk, BADGE, "Approved")
    maker_guid = desk.card.guid
    slot.tear_at(lambda apdu: apdu[1] == 0xDB and len(apdu) > BIG and desk.card.guid != maker_guid)
    await person.go_on(ENCODE)
    await person.type_number(await person.number())
    assert await asyncio.to_thread(slot.torn.wait, 60)
    await asyncio.to_thread(slot.pull)
    await person.click("summary:has-text('Cancel')")
    await person.see("it will be Failed, and its certificates are revoked")
    await person.click("button:has-text('Yes, cancel')")
    await person.see("The card is half done. Start again from the page, which finishes it")
    await person.reads("The card is half done. Start again from the page", title=CANCELLED)
    await person.close_window(CANCELLED)
    await asyncio.to_thread(slot.put, desk.card)
    await begins_issuing(desk, BADGE, "Failed")
    await finishes_issuing(desk)
    desk.pin = await asyncio.to_thread(mailed, mails, "PIN of your card", BADGE, 6)
    await requested(desk, SPARE, desk.people.ada)
    await decided(desk, desk.people.ada, "Approve the card", "Finished.")
    return desk


async def requested(desk: CardDesk, label: str, holder: Account) -> None:
    await desk.sits_down(desk.people.olga)
    await desk.object_page("user", holder.email)
    await desk.start("Request card", label, "works here")
    await desk.person.see("Somebody else has the next step.")


async def decided(desk: CardDesk, holder: Account, decision: str, said: str) -> None:
    person = await desk.sits_down(desk.people.paul)
    await person.click(f"a:has-text('Request card: {holder.email}')")
    await person.page.wait_for_url("**/processes/*")
    await person.page.get_by_label("Decision").select_option(label=decision)
    await person.next()
    await person.see(said)
    await person.click("nav a:has-text('Start')")


async def card_page(desk: CardDesk, label: str, state: str) -> None:
    """The page of the card of that name that is in that state."""
    page = desk.person.page
    await page.goto(f"{desk.origin}/operator/search?kind=card&state={state}")
    await page.get_by_role("link", name=label, exact=True).first.click()
    await page.wait_for_url("**/operator/objects/card/*")


async def ended_as(desk: CardDesk, label: str, process: str, state: str, before: str = "Approved") -> None:
    """An operator's process that changes the card's state."""
    await card_page(desk, label, before)
    await desk.start(process, "not needed")
    await desk.person.see("Finished.")
    await desk.person.click("a:has-text('Back to')")
    await desk.person.page.wait_for_url("**/operator/objects/card/*")
    assert await desk.person.page.inner_text(".object-head .state") == state


async def begins_issuing(desk: CardDesk, label: str, state: str) -> None:
    await card_page(desk, label, state)
    await desk.start("Issue card", desk.card.details().serial)
    await desk.open_inlay()


async def finishes_issuing(desk: CardDesk) -> None:
    """No letter is to be printed."""
    await desk.agree(ENCODE, READY)
    await desk.finish(READY, "PIN and PUK")
    assert await desk.person.page.get_by_role("button", name="Print").count() == 0
    await desk.person.next()
    await desk.person.see("Finished.")


def mailed(mails: MailServer, subject: str, label: str, digits: int) -> str:
    """The number that the one mail about this card told."""

    def found() -> list[str]:
        came = [email.message_from_bytes(mail) for mail in mails.mails]
        texts = [str(mail.get_payload()) for mail in came if mail["Subject"] == subject]
        return [text for text in texts if f"of your card {label} (" in text]

    wait_until(lambda: bool(found()), f"a mail {subject!r}", seconds=20)
    (text,) = found()
    (number,) = re.findall(rf"^    ([0-9]{{{digits}}})\r?$", text, re.MULTILINE)
    return str(number)


async def own_card(desk: CardDesk, process: str, done: tuple[str, str], **choices: str) -> None:
    """A process from the holder's page of cards, to the first field of Inlay's window or its last page."""
    person = desk.person
    await person.click("nav a:has-text('Cards')")
    await person.click(f"button:text-is('{process}')")
    await person.page.wait_for_url("**/processes/*")
    for label, choice in choices.items():
        await person.page.get_by_label(label.replace("_", " ")).select_option(label=choice)
    await person.next()
    await desk.open_inlay()
    await desk.agree(*done)


async def activated(desk: CardDesk) -> None:
    await own_card(desk, "Activate card", (SHOW, KNOWN))
    await types(desk.person, SHOW, desk.pin)
    await desk.end(KNOWN)


async def blocks_the_pin(desk: CardDesk) -> None:
    """Wrong until there is no try left: each time it is said, and before the last but one there is a warning."""
    person = desk.person
    await own_card(desk, "Unblock or change PIN", (CHANGE, CHANGED))
    assert not await desk.warned(CHANGE)
    for left, said in ((2, TWO_LEFT), (1, LAST_LEFT)):
        await types(person, CHANGE, wrong(desk.pin), CHOSEN, CHOSEN)
        await person.until(lambda left=left: desk.card.details().pin_tries == left, "the slip")  # type: ignore[misc]
        await person.reads(said, title=CHANGE)
        assert await desk.warned(CHANGE)
    await types(person, CHANGE, wrong(desk.pin), CHOSEN, CHOSEN)
    await person.reads(
        "It was wrong too often.", "Unblock it with the PUK, or ask your support.", title=PIN_BLOCKED
    )
    await person.close_window(PIN_BLOCKED)
    await person.see("Unblock it with the PUK")


def wrong_elsewhere(desk: CardDesk, which: str) -> None:
    """In another program PIN or PUK is typed wrong until no try is left."""
    with Personaliser(desk.reader).session() as session:
        pin, puk = partial(session.verify_pin, "999999"), partial(session.unblock_pin, "99999999", CHOSEN)
        for _ in range(3):
            with pytest.raises(InvalidPinError):
                (pin if which == "PIN" else puk)()
    details = desk.card.details()
    assert (details.pin_tries if which == "PIN" else details.puk_tries) == 0


# --- what is promised


async def test_rejected_or_aborted_a_card_is_issued_to_nobody_and_may_be_asked_for_again(
    approved: CardDesk,
) -> None:
    desk = approved
    person = await desk.sits_down(desk.people.olga)
    for label, state in ((BADGE, "Rejected"), (NOT_WANTED, "Aborted")):
        await card_page(desk, label, state)
        assert await person.page.locator("button:text-is('Issue card')").count() == 0
    await card_page(desk, BADGE, "Approved")
    assert await person.page.locator("button:text-is('Issue card')").count() == 1


async def test_pin_by_mail_it_is_active_and_once_pin_and_puk_are_blocked_it_is_said_what_helps(
    issued: CardDesk,
) -> None:
    desk = issued
    person = await desk.sits_down(desk.people.ada)
    await activated(desk)
    await blocks_the_pin(desk)

    await asyncio.to_thread(wrong_elsewhere, desk, "PUK")
    await own_card(desk, "Unblock or change PIN", (UNBLOCK, BOTH), What_is_to_be_done=BY_PUK)
    await person.reads("Nobody can use its keys any more.", title=BOTH)
    await person.close_window(BOTH)
    await person.see("which offers to erase it and to encode it anew")


async def test_told_no_pin_its_holder_sets_one_by_the_puk_of_a_mail_and_unblocks_it_by_that(
    issued: CardDesk, slot: CardSlot, mails: MailServer, tmp_path: Path
) -> None:
    """The wrong PUK costs the try that it is. What the mail told stands in no log."""
    desk = issued
    set_options(desk.site, {"PINDelivery": "nopin", "PUKDelivery": "email"})
    person = await desk.sits_down(desk.people.olga)
    await ended_as(desk, BADGE, "Lock", "Locked", before="Active")
    desk.card = card_from_its_maker(tmp_path)
    await asyncio.to_thread(slot.put, desk.card)
    await begins_issuing(desk, SPARE, "Approved")
    await finishes_issuing(desk)
    puk = await asyncio.to_thread(mailed, mails, "PUK of your card", SPARE, 8)

    await desk.sits_down(desk.people.ada)
    await own_card(desk, "Set PIN", (UNBLOCK, UNBLOCKED))
    await types(person, UNBLOCK, wrong(puk), CHOSEN, CHOSEN)
    await person.until(lambda: desk.card.details().puk_tries == 2, "the slip")
    await person.reads("The PUK is wrong.", "2 tries are left: after one more wrong PUK", title=UNBLOCK)
    await types(person, UNBLOCK, puk, CHOSEN, CHOSEN)
    await desk.end(UNBLOCKED)
    desk.pin = CHOSEN
    await activated(desk)
    await asyncio.to_thread(wrong_elsewhere, desk, "PIN")
    typed = {"What_is_to_be_done": BY_PUK, "The_PUK_that_the_card_has": "Typed in Inlay's window"}
    await own_card(desk, "Unblock or change PIN", (UNBLOCK, UNBLOCKED), **typed)
    await types(person, UNBLOCK, puk, LAST, LAST)
    await desk.end(UNBLOCKED)
    await asyncio.to_thread(Personaliser(desk.reader, pin=LAST, puk=puk).use, SLOT.AUTHENTICATION)
    assert (desk.card.details().pin_tries, desk.card.details().puk_tries) == (3, 3)
    for secret in (puk, CHOSEN, LAST):
        assert secret not in desk.log_of_all()
