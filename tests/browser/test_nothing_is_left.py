"""The use case broken off or refused, at each step: said in page and window, and nothing is left valid."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from protocol.errors import InlayError
from tests.support.person import ANY_WINDOW, CONSENT_TITLE, NUMBER_TITLE

if TYPE_CHECKING:
    from tests.browser.conftest import UseCase
    from tests.support.person import Person

pytestmark = [pytest.mark.browser, pytest.mark.timeout(90)]


def _error_title(code: str) -> str:
    """Title of the window that shows this error."""
    return f"^{re.escape(InlayError(code).happened)} - Inlay$"


async def _says(person: Person, code: str) -> None:
    """The page says that the process has ended, and why."""
    error = InlayError(code)
    await person.see(error.happened)
    assert error.why in await person.page.inner_text("main")


async def _window_says(person: Person, code: str) -> None:
    """Inlay's window says what happened, why, and what to do next."""
    error = InlayError(code)
    await person.reads(error.happened, error.why, error.next_step, title=_error_title(code))


async def test_window_closed_at_consent(use_case: UseCase) -> None:
    """Closing the window is a no: the page says so at once."""
    async with use_case.browser() as person:
        await person.begin()
        await person.open_inlay(question=True)
        await person.close_window(CONSENT_TITLE)
        await _says(person, "user_cancelled")
    use_case.assert_nothing_left()


async def test_window_closed_at_the_number(use_case: UseCase) -> None:
    """So it is after consent, while the number is shown."""
    async with use_case.browser() as person:
        await person.begin()
        await person.open_inlay(question=True)
        await person.enter_pin(use_case.pin)
        await person.close_window(NUMBER_TITLE)
        await _says(person, "user_cancelled")
    use_case.assert_nothing_left()


async def test_cancelled_in_the_page(use_case: UseCase) -> None:
    """Cancel in the page while the window asks: the window says so."""
    async with use_case.browser() as person:
        await person.begin()
        await person.open_inlay(question=True)
        await person.window(CONSENT_TITLE)
        await person.cancel_in_page()
        await _window_says(person, "cancelled_at_portal")
        await person.close_window(_error_title("cancelled_at_portal"))
        await person.see("cancelled")
    use_case.assert_nothing_left()


async def test_wrong_number_three_times(use_case: UseCase) -> None:
    """Two wrong numbers may be corrected; the third ends the order."""
    async with use_case.browser() as person:
        await person.begin()
        await person.open_inlay(question=True)
        await person.enter_pin(use_case.pin)
        wrong = f"{(int(await person.number()) + 1) % 1000:03d}"
        for left in ("2 tries left", "1 try left"):
            await person.type_number(wrong)
            await person.see(left)
        await person.type_number(wrong)
        await _says(person, "number_wrong")
        await _window_says(person, "number_wrong")
        await person.close_window(_error_title("number_wrong"))
    use_case.assert_nothing_left()


async def test_pins_that_differ_or_break_the_rules(use_case: UseCase) -> None:
    """Enter does nothing until both fields hold the same good PIN."""
    async with use_case.browser() as person:
        await person.begin()
        await person.open_inlay(question=True)
        await person.enter_pin("12345")
        await person.reads("6 to 8 characters", "Both fields hold the same PIN", title=CONSENT_TITLE)
        await person.enter_pin("123456", "123457")
        await person.reads("The two PINs differ", title=CONSENT_TITLE)
        assert use_case.card_files() == []
        await person.close_window(CONSENT_TITLE)
        await _says(person, "user_cancelled")
    use_case.assert_nothing_left()


async def test_user_not_active(use_case: UseCase) -> None:
    """The process isn't offered, and a request made by hand is refused with the state that is needed."""
    async with use_case.browser() as person:
        use_case.site.portal.command("user", "state", use_case.user.email, "inactive")
        answer = await person.page.evaluate(
            """async () => {
                const form = document.querySelector("form[action='/processes']");
                const body = new URLSearchParams(new FormData(form));
                const answer = await fetch('/processes', {method: 'POST', body});
                return [answer.status, await answer.text()];
            }"""
        )
        assert answer[0] == 403
        assert "must be active" in answer[1]
        await person.page.goto(use_case.address.origin)
        assert await person.page.locator("form[action='/processes']").count() == 0
        await person.see("active")
    use_case.assert_nothing_left()


async def test_unknown_portal(use_case: UseCase) -> None:
    """A link of a portal that isn't trusted: no window, a refusal in the log, and nothing is made."""
    agent = use_case.desk.agent
    agent.ask("trust", "remove", use_case.site.portal.portal_id)
    async with use_case.browser() as person:
        await person.begin()
        await person.open_inlay(question=True)
        await person.until(lambda: "refused: portal_unknown" in agent.logs(), "the refusal")
        assert person.display.windows(ANY_WINDOW) == []
    use_case.assert_nothing_left()


async def test_agent_killed_while_it_makes_keys(use_case: UseCase) -> None:
    """What was begun without an end is undone as soon as the agent runs again; the page says so."""
    async with use_case.browser() as person:
        await person.begin()
        await person.open_inlay(question=True)
        await person.enter_pin(use_case.pin)
        await person.type_number(await person.number())
        await person.page.wait_for_selector("#progress [data-step='keys'].now")
        use_case.desk.agent.kill()
        use_case.desk.agent.start()
        await _says(person, "order_interrupted")
    use_case.assert_nothing_left()
