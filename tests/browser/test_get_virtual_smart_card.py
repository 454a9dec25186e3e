"""The whole use case with every part real, on each way from the page to the agent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.support.browser import Policies
from tests.support.browser_questions import look
from tests.support.card_checks import CardChecks
from tests.support.person import CONSENT_TITLE, DETAILS_TITLE
from tests.support.portal_process import CA_CERTIFICATE_PATH, CRL_PATH

if TYPE_CHECKING:
    from pathlib import Path

    from tests.browser.conftest import UseCase
    from tests.support.person import Person

pytestmark = [pytest.mark.browser, pytest.mark.timeout(90)]


async def _finish(use_case: UseCase, person: Person, *, number: bool = True) -> None:
    """From the consent window to the cards page."""
    await person.enter_pin(use_case.pin)
    if number:
        await person.type_number(await person.number())
    await _ready(person)


async def _ready(person: Person) -> None:
    """From the window's last page to the cards page."""
    await person.close_window(DETAILS_TITLE)
    await person.see_step("Details")
    await person.next()
    await person.page.wait_for_url("**/cards")
    await person.page.locator(".smart-card .face .state-active").first.wait_for(state="visible")


def _check_card(use_case: UseCase, folder: Path) -> None:
    """The card as another program sees it: its certificates verified, and proved by their keys."""
    (card,) = use_case.cards()
    assert card["state"] == "active"
    assert card["account"] == use_case.user.email
    checks = CardChecks(card["reader"], folder, use_case.pin)
    portal = use_case.site.portal
    proved = checks.check(portal.fetch(CA_CERTIFICATE_PATH), portal.fetch(CRL_PATH))
    assert [one.purpose for one in proved] == ["authentication", "signature", "encryption"]
    assert list(use_case.issued().values()) == [True, True, True]


async def test_permission_undecided(use_case: UseCase, tmp_path: Path) -> None:
    """Nothing decided: the link, at once; the browser is never made to ask about loopback."""
    async with use_case.browser() as person:
        await person.begin()
        assert await person.path_found() == "link"
        assert await look(person.display) is None
        await person.open_inlay(question=True)
        asked = ("What will happen", "Choose a PIN for the card")
        await person.reads(use_case.address.origin, use_case.user.email, *asked, title=CONSENT_TITLE)
        await person.enter_pin(use_case.pin)
        number = await person.number()
        await person.reads(f"Type {number} in the page", "Then choose Cancel, and tell nobody the number.")
        await person.type_number(number)
        await person.reads("Your card is ready", "go back to the page", title=DETAILS_TITLE)
        await _ready(person)
    _check_card(use_case, tmp_path)


async def test_permission_denied(use_case: UseCase, tmp_path: Path) -> None:
    """Blocked by policy: the link."""
    policies = Policies().block_loopback(use_case.address.origin)
    async with use_case.browser(policies) as person:
        await person.begin()
        assert await person.path_found() == "link"
        await person.open_inlay(question=True)
        await _finish(use_case, person)
    _check_card(use_case, tmp_path)


async def test_permission_granted(use_case: UseCase, tmp_path: Path) -> None:
    """Allowed by policy: the agent takes the code from the page itself, and no link is opened."""
    policies = Policies().allow_loopback(use_case.address.origin)
    async with use_case.browser(policies) as person:
        await person.begin()
        assert await person.found_directly()
        await person.open_inlay(question=False)
        await _finish(use_case, person)
        assert await look(person.display) is None
    _check_card(use_case, tmp_path)


async def test_known_device_needs_no_number(use_case: UseCase) -> None:
    """The second card on the same machine: consent and PIN are enough, by link and by loopback."""
    async with use_case.browser() as person:
        await person.begin()
        await person.open_inlay(question=True)
        await _finish(use_case, person)
        await person.page.goto(use_case.address.origin)
        await person.begin()
        await person.open_inlay(question=True)
        await _finish(use_case, person, number=False)
    first, second = use_case.cards()
    assert first["guid"] != second["guid"]
    assert first["reader"] != second["reader"]


async def test_code_typed_by_hand(use_case: UseCase, tmp_path: Path) -> None:
    """The last way: `inlay code` asks for the code in a window of its own."""
    async with use_case.browser() as person:
        await person.begin()
        code = await person.typed_code()
        agent = use_case.desk.agent
        command = asyncio.create_task(asyncio.to_thread(agent.run, "code"))
        await person.enter_code(code)
        await _finish(use_case, person)
        assert (await command).returncode == 0
    _check_card(use_case, tmp_path)


async def test_agent_not_started(use_case: UseCase, tmp_path: Path) -> None:
    """The link starts the agent when it isn't running."""
    agent = use_case.desk.agent
    agent.stop()
    assert agent.listening() is None
    async with use_case.browser() as person:
        await person.begin()
        await person.open_inlay(question=True)
        await _finish(use_case, person)
    assert agent.listening() is not None
    _check_card(use_case, tmp_path)


async def test_keys_on_curves(use_case: UseCase, tmp_path: Path) -> None:
    """The same with P-256 keys, the one for encryption made on the card: it agrees on a secret."""
    keys = ("AuthenticationAlgorithm", "SignatureAlgorithm", "EncryptionAlgorithm")
    portal = use_case.site.portal
    portal.command("options", "--set=RecoverEncryption=false", *(f"--set={name}=P-256" for name in keys))
    try:
        async with use_case.browser() as person:
            await person.begin()
            await person.open_inlay(question=True)
            await _finish(use_case, person)
    finally:
        portal.command(
            "options", "--set=RecoverEncryption=true", *(f"--set={name}=RSA-2048" for name in keys)
        )
    _check_card(use_case, tmp_path)
