"""The demo's use case: what a person does from the log-in to the card, and what is checked afterwards."""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from tests.support.browser_questions import Question, answer
from tests.support.card_checks import CardChecks, CheckFailed, Proved
from tests.support.person import CONSENT_TITLE, DETAILS_TITLE, Person
from tests.support.portal_process import CA_CERTIFICATE_PATH, CRL_PATH

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.async_api import Page

    from tests.support.display import VirtualDisplay
    from tests.support.portal_process import Account, PortalProcess
    from tests.support.stack import Desk

PIN_DIGITS = 8
PATHS = {
    "link": "link (xdg-open, desktop entry, inlay open) + outbound channel",
    "loopback": "loopback socket + outbound channel",
}


class Steps:
    """Prints each step with its duration.

    Attributes:
        now: the step that is under way.
    """

    def __init__(self) -> None:
        """Begin to count."""
        self._begin = time.monotonic()
        self.now = ""

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """One step; printed when it has succeeded."""
        self.now = text
        begin = time.monotonic()
        yield
        self.say(f"{text:<66} {time.monotonic() - begin:6.2f} s")

    def say(self, text: str) -> None:
        """A line of the demo."""
        print(f"demo: {text}", flush=True)

    @property
    def seconds(self) -> float:
        """How long the demo has taken so far."""
        return time.monotonic() - self._begin


class Card(NamedTuple):
    """The card that was made.

    Attributes:
        pin: its PIN.
        reader: PC/SC name of the reader it is in.
        atr: hexadecimal, as PC/SC has it.
        path: how the page reached the agent.
        certificates: read from it, verified and proved.
    """

    pin: str
    reader: str
    atr: str
    path: str
    certificates: list[Proved]


async def get_card(
    steps: Steps, display: VirtualDisplay, page: Page, origin: str, user: Account
) -> tuple[str, str]:
    """Get a virtual smart card as a person does; returns its PIN and the path that was taken."""
    person = Person(display, page)
    pin = "".join(secrets.choice("0123456789") for _ in range(PIN_DIGITS))
    with steps.step("logged in, e-mail address and password typed"):
        await person.log_in(origin, user)
    with steps.step("Get virtual smart card, Next"):
        await person.begin()
    found = await person.path_found()
    with steps.step("mouse click on Open Inlay"):
        await person.open_inlay(question=False)
    if found == "link":
        with steps.step("the browser's own question answered: Open Inlay"):
            await answer(display, Question.OPEN_LINK, yes=True)
    with steps.step("consent window in front"):
        await person.window(CONSENT_TITLE)
    path = await person.path_taken()
    with steps.step("PIN typed twice into the window, Enter"):
        await person.enter_pin(pin)
    with steps.step("number read from the window, typed into the page"):
        await person.type_number(await person.number())
    with steps.step("keys made, certificates issued, card proved: details window"):
        await person.window(DETAILS_TITLE)
    with steps.step("window closed"):
        await person.close_window(DETAILS_TITLE)
    with steps.step("the page has moved on by itself"):
        await person.see_step("Details")
    with steps.step("Next: Cards shows the card, Active"):
        await person.next()
        await page.wait_for_url("**/cards")
        await page.locator(".smart-card .face .state-active").wait_for(state="visible")
    return pin, path


async def check_card(
    steps: Steps, desk: Desk, portal: PortalProcess, pin: str, path: str, folder: Path
) -> Card:
    """Look at the card as other programs do: through PC/SC.

    Raises:
        CheckFailed: it isn't there, or isn't what it should be.
    """
    with steps.step("card found through PC/SC by another program"):
        cards = (await asyncio.to_thread(desk.agent.ask, "cards"))["cards"]
        if len(cards) != 1 or cards[0]["state"] != "active" or cards[0]["reader"] is None:
            raise CheckFailed("one active card in a reader", str(cards))
        checks = CardChecks(cards[0]["reader"], folder, pin)
        atr = await asyncio.to_thread(checks.atr)
    steps.say(f"reader {checks.reader!r}, ATR {atr}")
    steps.say(f"path taken: {PATHS[path]}")
    with steps.step("certificates read, verified (CA, CRL), proved by their keys"):
        ca = await asyncio.to_thread(portal.fetch, CA_CERTIFICATE_PATH)
        crl = await asyncio.to_thread(portal.fetch, CRL_PATH)
        certificates = await asyncio.to_thread(checks.check, ca, crl)
        configured = await asyncio.to_thread(_configured, portal)
        if len(certificates) != configured:
            raise CheckFailed(f"{configured} certificates on the card", f"there are {len(certificates)}")
    for one in certificates:
        steps.say(f"  {one.purpose}: {one.subject}; openssl verify OK; {one.proof}")
    return Card(pin, checks.reader, atr, path, certificates)


def _configured(portal: PortalProcess) -> int:
    """How many certificates a card gets by the portal's options."""
    for line in portal.command("options").splitlines():
        name, _, value = line.partition("=")
        if name == "Certificates":
            return len(value.split(","))
    raise CheckFailed("the portal's option Certificates", "there is none")
