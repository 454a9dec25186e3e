"""A card for good from the page of each use case: asked for, approved, issued, activated, used, and blocked in the end.

Every part is real: Chromium, portal, agent, window, pcscd with vpcd. What is on the card is looked at by others.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from cryptography import x509
from yubikit.core import InvalidPinError
from yubikit.piv import SLOT

from tests.browser.test_change_pin_and_delete import types
from tests.support.card_checks import CardChecks, CheckFailed
from tests.support.card_desk import CardDesk, card_desk, card_from_its_maker
from tests.support.foreign_personaliser import Personaliser
from tests.support.issue_stage import told
from tests.support.person import goes_on
from tests.support.portal_process import CA_CERTIFICATE_PATH, CRL_PATH
from tests.support.processes import wait_until
from tests.support.virtual_cards import InReader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.display import VirtualDisplay
    from tests.support.pcscd import PrivatePcscd
    from tests.support.stack import Site

BADGE, SPARE = "Badge of Ada", "Badge of Olga"
ENCODE = r"^Encode a card - Inlay$"
READY = r"^The card is ready - Inlay$"
SHOW, KNOWN = r"^Show that you have your card - Inlay$", r"^The portal knows your card - Inlay$"
CHECK, RIGHT = r"^Check the PIN of your card - Inlay$", r"^The PIN is right - Inlay$"
CHANGE, CHANGED = r"^Change the PIN of your card - Inlay$", r"^The PIN is changed - Inlay$"
READ, WAS_READ = r"^Read a card - Inlay$", r"^The card was read - Inlay$"
PICK = r"^Which card is it\? - Inlay$"
PUK, PUK_CHANGED = r"^Change the PUK of the card - Inlay$", r"^The portal has the card's PUK - Inlay$"
BLOCK, BLOCKED = r"^Block the card for good - Inlay$", r"^The card is blocked - Inlay$"
CHOSEN = "864213"
SLOTS = (SLOT.AUTHENTICATION, SLOT.SIGNATURE, SLOT.KEY_MANAGEMENT)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.interop,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="module"),
]


@dataclass
class Issued:
    """A card that was issued.

    Attributes:
        letters: with PIN and PUK, PDF.
        puk: the one in the letter.
    """

    desk: CardDesk
    letters: list[bytes]
    puk: str


lasting = pytest_asyncio.fixture(scope="module", loop_scope="module")


@lasting
async def desk(site: Site, screen: VirtualDisplay, pcscd: PrivatePcscd) -> AsyncIterator[CardDesk]:
    folder = Path(tempfile.mkdtemp(prefix="desk-"))
    try:
        async with card_desk(site, screen, pcscd, folder) as running:
            yield running
    finally:
        shutil.rmtree(folder)


@lasting
async def decided(desk: CardDesk) -> CardDesk:
    """Two requests: Ada's is approved, Olga's is rejected."""
    people = desk.people
    person = await desk.sits_down(people.olga)
    for holder, label in ((people.ada, BADGE), (people.olga, SPARE)):
        await desk.object_page("user", holder.email)
        await desk.start("Request card", label, "works here")
        await person.see("Somebody else has the next step.")
    person = await desk.sits_down(people.paul)
    for holder, decision, said in (
        (people.ada, "Approve the card", "Finished."),
        (people.olga, "Reject the card", "You have refused this."),
    ):
        await person.click(f"a:has-text('Request card: {holder.email}')")
        await person.page.wait_for_url("**/processes/*")
        await person.see("works here")
        await person.page.get_by_label("Decision").select_option(label=decision)
        await person.next()
        await person.see(said)
        await person.click("nav a:has-text('Start')")
    return desk


@lasting
async def issued(decided: CardDesk) -> Issued:
    """Ada's card is encoded by Olga, and its letters are printed."""
    desk = decided
    person = await desk.sits_down(desk.people.olga)
    await desk.object_page("card", BADGE)
    await desk.start("Issue card", desk.card.details().serial)
    await desk.open_inlay()
    await desk.agree(ENCODE, READY)
    await desk.finish(READY, "PIN and PUK")
    await person.next()
    await person.see("A letter was not printed yet.")
    assert await person.page.get_by_role("link", name="Back to the process").is_visible()
    await desk.object_page("card", BADGE)
    await person.click("a:has-text('Issue card: go on')")
    letters = [await printed(desk, kind) for kind in ("PIN", "PUK")]
    await person.next()
    await person.see("Finished.")
    desk.pin = only_digits(letters[0], 6)
    return Issued(desk, letters, only_digits(letters[1], 8))


@lasting
async def active(issued: Issued) -> Issued:
    """Ada has activated her card, with a slip."""
    desk = issued.desk
    await desk.sits_down(desk.people.ada)
    await own_card(desk, "Activate card")
    await desk.agree(SHOW, KNOWN)
    assert not await desk.warned(SHOW)
    await types(desk.person, SHOW, wrong(desk.pin))
    await desk.person.until(lambda: desk.card.details().pin_tries == 2, "the slip")
    await desk.person.reads("The PIN is wrong. 2 tries are left", title=SHOW)
    await types(desk.person, SHOW, desk.pin)
    await desk.end(KNOWN)
    return issued


async def printed(desk: CardDesk, kind: str) -> bytes:
    """A letter, printed: the browser has it as a file, and the page says so without being loaded again."""
    row = desk.person.page.locator(f"li[data-kind={kind.lower()}] .detail")
    assert await row.text_content() == "Not printed yet"
    async with desk.person.page.expect_download() as loaded:
        await desk.person.click(f"button:has-text('Print {kind} letter')")
    await row.get_by_text("Printed 1 time; 2 more possible").wait_for()
    return (await (await loaded.value).path()).read_bytes()


def only_digits(letter: bytes, count: int) -> str:
    """The number of so many digits in a letter."""
    (found,) = re.findall(rf"^[0-9]{{{count}}}$", told(letter), re.MULTILINE)
    return str(found)


def wrong(pin: str) -> str:
    return pin[:-1] + str((int(pin[-1]) + 1) % 10)


async def own_card(desk: CardDesk, process: str, *, action: str = "") -> None:
    """A process from the holder's page of cards, to Inlay's window."""
    person = desk.person
    await person.click("nav a:has-text('Cards')")
    await person.click(f"button:text-is('{process}')")
    await person.page.wait_for_url("**/processes/*")
    if action:
        await person.page.get_by_label("What is to be done").select_option(label=action)
    await person.next()
    await desk.open_inlay()


async def with_card(desk: CardDesk, process: str, title: str, done: str) -> None:
    """An operator's process on the card in the reader, from its page to Inlay's last one."""
    await desk.object_page("card", BADGE)
    await desk.start(process)
    await desk.open_inlay()
    await desk.agree(title, done)


async def ended(desk: CardDesk, process: str, state: str) -> None:
    """An operator's process that changes the card's state."""
    await desk.object_page("card", BADGE)
    await desk.start(process, "asked for")
    await desk.person.see("Finished.")
    await desk.object_page("card", BADGE)
    assert await desk.person.page.inner_text(".object-head .state") == state


def not_good(desk: CardDesk, yubikit: Personaliser) -> list[bool]:
    """Of each of the card's certificates: whether it is in the CA's CRL, revoked or on hold."""
    crl = x509.load_der_x509_crl(desk.site.portal.fetch(CRL_PATH))
    with yubikit.session() as session:
        numbers = [session.get_certificate(slot).serial_number for slot in SLOTS]
    return [crl.get_revoked_certificate_by_serial_number(number) is not None for number in numbers]


def crl_says(desk: CardDesk, bad: bool) -> None:
    """Wait until the CA's CRL has all certificates of the card, or none."""
    card = Personaliser(desk.reader)
    wait_until(lambda: not_good(desk, card) == [bad] * 3, f"certificates in the CRL: {bad}", seconds=20)


def checked_by_opensc(desk: CardDesk) -> None:
    """Each certificate read and verified, each key used, by OpenSC and OpenSSL."""
    portal = desk.site.portal
    with tempfile.TemporaryDirectory() as folder:
        checks = CardChecks(desk.reader, Path(folder), desk.pin)
        proved = checks.check(portal.fetch(CA_CERTIFICATE_PATH), portal.fetch(CRL_PATH))
    assert [each.purpose for each in proved] == ["authentication", "signature", "encryption"]
    assert all(desk.people.ada.email in each.subject for each in proved)


def locked_for_opensc(desk: CardDesk) -> None:
    with tempfile.TemporaryDirectory() as folder:
        checks = CardChecks(desk.reader, Path(folder), desk.pin)
        with pytest.raises(CheckFailed, match="CKR_PIN_LOCKED"):
            checks.log_in()


# --- what is promised


async def test_a_card_that_was_rejected_is_issued_to_nobody(decided: CardDesk) -> None:
    desk = decided
    person = await desk.sits_down(desk.people.olga)
    await desk.object_page("card", SPARE)
    assert await person.page.inner_text(".object-head .state") == "Rejected"
    await person.see("The card is Rejected. The state needed: Approved or Failed.")
    assert await person.page.locator("button:text-is('Issue card')").count() == 0


async def test_an_issued_card_has_the_pin_and_the_puk_of_its_letters_and_its_certificates_are_on_hold(
    issued: Issued,
) -> None:
    """By yubikit, which changes the PUK to itself, and by the CA's own list."""
    desk = issued.desk
    assert all(
        letter.startswith(b"%PDF-") and letter.rstrip().endswith(b"%%EOF") for letter in issued.letters
    )
    yubikit = Personaliser(desk.reader, pin=desk.pin, puk=issued.puk)

    def look() -> None:
        for slot in SLOTS:
            yubikit.use(slot)
        with yubikit.session() as session:
            session.change_puk(issued.puk, issued.puk)
        assert not_good(desk, yubikit) == [True] * 3

    await asyncio.to_thread(look)


async def test_activated_its_certificates_are_good(active: Issued) -> None:
    desk = active.desk
    await asyncio.to_thread(crl_says, desk, bad=False)
    assert desk.card.details().pin_tries == 3
    await desk.person.click("nav a:has-text('Cards')")
    assert await desk.person.page.inner_text(".smart-card .face .state") == "Active"


async def test_its_holder_checks_the_pin_and_changes_it(active: Issued) -> None:
    desk, old = active.desk, active.desk.pin
    await desk.sits_down(desk.people.ada)
    await own_card(desk, "Check PIN")
    await desk.agree(CHECK, RIGHT)
    await types(desk.person, CHECK, old)
    await desk.end(RIGHT)
    await own_card(desk, "Unblock or change PIN", action="Change the PIN: I know it")
    await desk.agree(CHANGE, CHANGED)
    await types(desk.person, CHANGE, old, CHOSEN, CHOSEN)
    desk.pin = CHOSEN
    await desk.end(CHANGED)
    assert desk.card.details().pin_tries == 3
    await asyncio.to_thread(checked_by_opensc, desk)


async def test_an_operator_reads_whose_the_card_in_the_reader_is(active: Issued) -> None:
    desk = active.desk
    person = await desk.sits_down(desk.people.olga)
    await person.click("nav a:has-text('Start')")
    await desk.start("Read card")
    await desk.open_inlay()
    await desk.agree(READ, WAS_READ)
    await desk.finish(WAS_READ)
    await person.see(f"{BADGE} (card)")
    await person.see(desk.card.guid.hex())
    await person.next()
    await person.see("Finished.")


async def test_with_two_cards_the_person_picks_from_a_list_that_follows_what_is_in_the_readers(
    active: Issued, pcscd: PrivatePcscd, tmp_path: Path
) -> None:
    """By keyboard alone: Ada's card stays, the one that was chosen is taken out, and the one in its place is meant."""
    desk = active.desk
    person = await desk.sits_down(desk.people.olga)
    chosen, picked = (card_from_its_maker(tmp_path / name) for name in ("chosen", "picked"))
    await person.click("nav a:has-text('Start')")
    await desk.start("Read card")
    with InReader(chosen, pcscd.vpcd_ports[1]):
        await desk.open_inlay()
        await desk.agree(READ, PICK)
        await person.mouse_aside()
        window = await person.window(PICK)
        await person.sees(window, lambda seen: not goes_on(seen), "a list in which nothing is chosen")
        await person.press("Return", "Down", "Down")  # Return goes nowhere yet
        await person.sees(window, goes_on, "the second card chosen")
        await person.reads(*pcscd.readers[:3], "No card is in it.", title=PICK)
    gone = await person.sees(window, lambda seen: not goes_on(seen), "the choice gone with its card")
    with InReader(picked, pcscd.vpcd_ports[1]):
        await person.press("Return")  # nor now: the card that is left isn't meant by that
        back = await person.sees(window, lambda seen: seen != gone, "another card in the list")
        assert not goes_on(back)
        await person.press("Down", "Down")
        await person.sees(window, goes_on, "the card that came chosen")
        await person.press("Return")
        await desk.finish(WAS_READ)
    await person.see(picked.guid.hex())
    await person.see("no card of this portal")
    await person.next()
    await person.see("Finished.")


async def test_changed_by_an_operator_the_puk_of_the_letter_is_good_no_more(active: Issued) -> None:
    desk = active.desk
    await desk.sits_down(desk.people.olga)
    await with_card(desk, "Change PUK", PUK, PUK_CHANGED)
    await desk.end(PUK_CHANGED)
    await desk.person.see("another one, kept here")

    def refused() -> None:
        with Personaliser(desk.reader).session() as session, pytest.raises(InvalidPinError):
            session.change_puk(active.puk, active.puk)

    await asyncio.to_thread(refused)


async def test_deactivated_its_certificates_are_on_hold_until_it_is_reactivated(active: Issued) -> None:
    desk = active.desk
    await desk.sits_down(desk.people.olga)
    await ended(desk, "Deactivate", "Inactive")
    await asyncio.to_thread(crl_says, desk, bad=True)
    await ended(desk, "Reactivate", "Active")
    await asyncio.to_thread(crl_says, desk, bad=False)


async def test_locked_and_blocked_nobody_uses_it_any_more(active: Issued) -> None:
    """Neither PIN nor PUK by yubikit, no PIN by OpenSC, no certificate by the CA; and no PIN was written anywhere."""
    desk = active.desk
    await desk.sits_down(desk.people.olga)
    await ended(desk, "Lock", "Locked")
    await with_card(desk, "Block card", BLOCK, BLOCKED)
    await desk.end(BLOCKED)
    await desk.person.see("The card takes no PIN any more.")
    await asyncio.to_thread(locked_for_opensc, desk)

    def blocked() -> None:
        with Personaliser(desk.reader).session() as session:
            assert session.get_pin_attempts() == session.get_puk_metadata().attempts_remaining == 0

    await asyncio.to_thread(blocked)
    await asyncio.to_thread(crl_says, desk, bad=True)
    for secret in (only_digits(active.letters[0], 6), active.puk, CHOSEN):
        assert secret not in desk.log_of_all()
