"""The windows of the commands about cards, on a virtual screen, by keyboard alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from agent.desktop import dialog_process
from agent.desktop.dialog_process import WindowProcess, Windows
from agent.handlers.show_card import _tries
from agent.pin_rules import PinRules
from agent.ports import CardChoice, CardSheet, KnownSecret, OrderPrompt, UserCancelled, UserEnvironment
from tests.agent.desktop.test_order_window import Person
from tests.agent.desktop.window_pictures import BLOCKED, SHEET
from tests.support.display import VirtualDisplay

PROMPT = OrderPrompt(
    portal_name="Inlay",
    origin="",
    account="",
    title="Change the PIN of a card",
    consequences=("The card gets another PIN.",),
    pin_policy=PinRules(),
    confirm_label="Change PIN",
    card="Card (serial 12)",
    known=KnownSecret("PIN of the card", 6, 8),
    warning="2 tries are left.",
    working="Changing the PIN",
)
CHOICES = [CardChoice("a" * 32, "Work", "Serial 1"), CardChoice("b" * 32, "Home", "Serial 2")]
ACTIONS = (("change-pin", "Change the PIN"), ("unblock", "Unblock"), ("delete", "Delete"))

pytestmark = pytest.mark.interop


@pytest.fixture(autouse=True)
def soft_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test run itself stays dumpable: other tests look into /proc/self."""
    monkeypatch.setattr(dialog_process, "forbid_dumps", lambda: None)


@pytest.fixture
async def person(xvfb: VirtualDisplay) -> AsyncIterator[Person]:
    environment = UserEnvironment({name: xvfb.env[name] for name in ("DISPLAY", "XAUTHORITY")})
    window = await Windows().open_cards(environment)
    assert isinstance(window, WindowProcess)
    yield Person(window, xvfb)
    await window.close()


@pytest.mark.parametrize(
    ("known", "first", "second"),
    [
        ("12345", "Zx7kQ2", "Zx7kQ2"),  # can't be a PIN: it would cost a try
        ("123456789", "Zx7kQ2", "Zx7kQ2"),
        ("", "Zx7kQ2", "Zx7kQ2"),
        ("654321", "Zx7", "Zx7"),
        ("654321", "Zx7kQ2", "Zx7kQ3"),
    ],
)
async def test_what_can_not_be_right_can_not_be_sent(
    person: Person, known: str, first: str, second: str
) -> None:
    asking = asyncio.create_task(person.window.ask(PROMPT))
    await person.sees("consent")
    for text in (known, first, second):
        if text:
            await person.types(text)
        await person.presses("Return")
    await person.presses("Tab", "Tab", "Return")  # past “Show what I type”, on to the only button: Cancel
    with pytest.raises(UserCancelled):
        await asyncio.wait_for(asking, 20)


async def test_known_and_new_pin_come_apart_and_are_asked_again_in_the_same_window(person: Person) -> None:
    for known in ("111111", "654321"):
        asking = asyncio.create_task(person.window.ask(PROMPT))
        await person.sees("consent")
        for text in (known, "Zx7kQ2", "Zx7kQ2"):
            await person.types(text)
            await person.presses("Return")
        answer = await asyncio.wait_for(asking, 20)
        assert (bytes(answer.known or b""), bytes(answer.pin or b"")) == (known.encode(), b"Zx7kQ2")
        answer.wipe()
        await person.window.show_progress("pin", "Changing the PIN", 0, 1, can_cancel=False)
        await person.sees("progress")
    await person.window.show_done("The PIN is changed", ("Use it.",))
    await person.sees("done")
    assert await person.title() == "The PIN is changed - Inlay"
    await person.presses("Return")
    await asyncio.wait_for(person.window.wait_closed(), 20)
    assert person.window.failure is None


@pytest.mark.parametrize(("typed", "agreed"), [("delet", False), ("yes", False), ("Delete", True)])
async def test_only_the_word_itself_agrees(person: Person, typed: str, agreed: bool) -> None:
    prompt = replace(PROMPT, pin_policy=None, known=None, typed="delete", confirm_label="Delete")
    asking = asyncio.create_task(person.window.ask(prompt))
    await person.sees("consent")
    await person.types(typed)
    await person.presses("Return")
    if agreed:
        answer = await asyncio.wait_for(asking, 20)
        assert (answer.pin, answer.known) == (None, None)
        return
    await person.presses("Escape")
    with pytest.raises(UserCancelled):
        await asyncio.wait_for(asking, 20)


@pytest.mark.parametrize(("keys", "chosen"), [((), 0), (("Down",), 1), (("Down", "Down"), 0), (("Up",), 1)])
async def test_a_card_is_chosen_by_arrows(person: Person, keys: tuple[str, ...], chosen: int) -> None:
    choosing = asyncio.create_task(person.window.choose("Delete a card", CHOICES))
    await person.sees("choose")
    await person.presses(*keys, "Return")
    assert await asyncio.wait_for(choosing, 20) == CHOICES[chosen].card


async def test_a_list_that_follows_readers_keeps_a_choice_only_while_its_card_is_there(
    person: Person,
) -> None:
    def rows(one: str, two: str) -> list[CardChoice]:
        return [
            CardChoice(one, "One", "PIV card, serial 1"),
            CardChoice("- Three", "Three", "No card is in it.", usable=False),
            CardChoice(two, "Two", "PIV card, blank"),
        ]

    async def showing(cards: list[CardChoice]) -> asyncio.Task[str]:
        person.window._page = None
        task = asyncio.create_task(person.window.choose("Which card is it?", cards, "Pick the card."))
        await person.sees("choose")
        return task

    choosing = await showing(rows("1 One", "2 Two"))
    await person.presses("Return", "Down", "Down")  # Return chooses nothing: nothing is chosen beforehand
    choosing.cancel()
    choosing = await showing(rows("3 One", "2 Two"))
    await person.presses("Return")
    assert await asyncio.wait_for(choosing, 20) == "2 Two"
    choosing = await showing(rows("3 One", "4 Two"))
    await person.presses("Return", "Up", "Down", "Return")  # what was chosen went: the first key chooses anew
    assert await asyncio.wait_for(choosing, 20) == "4 Two"
    choosing = await showing([replace(row, usable=False) for row in rows("3 One", "4 Two")])
    await person.presses("Return", "Escape")
    with pytest.raises(UserCancelled):
        await asyncio.wait_for(choosing, 20)


async def test_nothing_is_chosen_by_closing(person: Person) -> None:
    choosing = asyncio.create_task(person.window.choose("Delete a card", CHOICES))
    await person.sees("choose")
    await person.closes_by_cross()
    with pytest.raises(UserCancelled):
        await asyncio.wait_for(choosing, 20)


@pytest.mark.parametrize(
    ("keys", "action"),
    [(("Return",), "change-pin"), (("Tab", "Tab", "Return"), "delete"), (("Escape",), None)],
)
async def test_a_card_is_shown_with_what_can_be_done(
    person: Person, keys: tuple[str, ...], action: str | None
) -> None:
    sheet = CardSheet("Card", (("Serial", "12"), ("PIN", "3 tries left")), None, (), ACTIONS)
    showing = asyncio.create_task(person.window.show_card(sheet))
    await person.sees("card")
    await person.presses(*keys)
    assert await asyncio.wait_for(showing, 20) == action
    assert person.window.failure is None


def test_the_pictures_say_of_tries_what_the_agent_says() -> None:
    assert [dict(sheet.fields)["PIN"] for sheet in (SHEET, BLOCKED)] == [_tries(3), _tries(0)]
