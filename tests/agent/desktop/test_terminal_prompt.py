"""The prompt on the caller's terminal, where there is no display."""

from __future__ import annotations

import asyncio
import os
import pty
import termios
from collections.abc import Iterator
from dataclasses import replace

import pytest

from agent.desktop import dialog_process
from agent.desktop.dialog_process import Windows
from agent.desktop.terminal_prompt import TerminalSession
from agent.pin_rules import PinRules
from agent.ports import (
    CardChoice,
    CardSheet,
    CardSummary,
    CertificateLine,
    KnownSecret,
    OrderPrompt,
    UserCancelled,
    UserEnvironment,
    WindowFailed,
)
from protocol.errors import InlayError

PROMPT = OrderPrompt(
    portal_name="Example University",
    origin="https://bücher.example",
    account="maria\x1b[2J@example.edu",
    title="Create a virtual smart card",
    consequences=("A card is made on this computer.",),
    pin_policy=PinRules(digits="REQUIRED"),
)
CARD = CardSummary(
    "Card", "4711", "file", (CertificateLine("Signature", "CN=M", "2026-11-22", "2028-11-21"),)
)


class Terminal:
    """A person at a pseudo-terminal."""

    def __init__(self) -> None:
        self.ours, self.theirs = pty.openpty()
        os.set_blocking(self.ours, False)
        self.seen = ""

    async def sees(self, text: str) -> None:
        """Wait until the text has been shown; what came before it is forgotten."""
        while text not in self.seen:
            try:
                self.seen += os.read(self.ours, 65536).decode()
            except BlockingIOError:
                await asyncio.sleep(0.005)
        self.seen = self.seen.partition(text)[2]

    def types(self, text: str) -> None:
        os.write(self.ours, text.encode())

    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self.ours)[3] & termios.ECHO)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.setattr(dialog_process, "forbid_dumps", lambda: None)
    made = Terminal()
    yield made
    os.close(made.ours)
    os.close(made.theirs)


async def open_on(terminal: Terminal, prompt: OrderPrompt = PROMPT) -> TerminalSession:
    session = await Windows().open(prompt, UserEnvironment({}, tty=terminal.theirs))
    assert isinstance(session, TerminalSession)
    return session


async def test_bad_pins_are_refused_with_their_rule_then_a_good_one_is_taken(terminal: Terminal) -> None:
    session = await open_on(terminal)
    consent = asyncio.create_task(session.consent())
    await terminal.sees("New PIN: ")
    terminal.types("12345\n")
    await terminal.sees("It needs: 6 to 8 characters.")
    await terminal.sees("New PIN: ")
    terminal.types("123456789\n")
    await terminal.sees("It needs: 6 to 8 characters.")
    await terminal.sees("New PIN: ")
    terminal.types("abcdef\n")
    await terminal.sees("It needs: At least one digit.")
    await terminal.sees("New PIN: ")
    terminal.types("abc123\n")
    await terminal.sees("again: ")
    terminal.types("abc124\n")
    await terminal.sees("The two PINs differ.")
    await terminal.sees("New PIN: ")
    assert not terminal.echoes()
    terminal.types("abc123\n")
    await terminal.sees("again: ")
    terminal.types("abc123\n")
    answer = await asyncio.wait_for(consent, 10)
    assert bytes(answer.pin or b"") == b"abc123"
    assert terminal.echoes()
    await session.close()


async def test_the_terminal_shows_who_asks_and_never_acts_on_foreign_text(terminal: Terminal) -> None:
    session = await open_on(terminal)
    consent = asyncio.create_task(session.consent())
    await terminal.sees("https://xn--bcher-kva.example")
    await terminal.sees("maria?[2J@example.edu")
    await terminal.sees("A card is made on this computer.")
    await terminal.sees("New PIN: ")
    terminal.types("\n")
    with pytest.raises(UserCancelled):
        await asyncio.wait_for(consent, 10)
    assert session.closed.is_set()
    assert isinstance(session.failure, UserCancelled)


async def test_a_pin_is_not_echoed(terminal: Terminal) -> None:
    session = await open_on(terminal)
    consent = asyncio.create_task(session.consent())
    await terminal.sees("New PIN: ")
    terminal.types("abc123\n")
    await terminal.sees("again: ")
    assert "abc123" not in terminal.seen
    terminal.types("abc123\n")
    (await asyncio.wait_for(consent, 10)).wipe()
    await session.show_number("417")
    await terminal.sees("Type 417")
    await session.close()


@pytest.mark.parametrize(
    ("said", "agreed"), [("no\n", False), ("\n", False), ("\x04", False), ("yes\n", True)]
)
async def test_consent_without_a_pin_takes_a_yes(terminal: Terminal, said: str, agreed: bool) -> None:
    session = await open_on(terminal, replace(PROMPT, pin_policy=None, confirm_label="Delete"))
    consent = asyncio.create_task(session.consent())
    await terminal.sees("Delete? Type yes: ")
    terminal.types(said)
    if agreed:
        assert (await asyncio.wait_for(consent, 10)).pin is None
        await session.close()
        return
    with pytest.raises(UserCancelled):
        await asyncio.wait_for(consent, 10)


async def test_a_yes_that_was_typed_before_the_question_agrees_to_nothing(terminal: Terminal) -> None:
    terminal.types("yes\n")
    session = await open_on(terminal, replace(PROMPT, pin_policy=None, confirm_label="Delete"))
    consent = asyncio.create_task(session.consent())
    await terminal.sees("Delete? Type yes: ")
    terminal.types("no\n")
    with pytest.raises(UserCancelled):
        await asyncio.wait_for(consent, 10)


async def test_a_terminal_that_is_closed_is_a_cancellation(terminal: Terminal) -> None:
    session = await open_on(terminal)
    consent = asyncio.create_task(session.consent())
    await terminal.sees("New PIN: ")
    os.close(terminal.ours)  # the far end: the person's terminal window is gone
    terminal.ours = os.open(os.devnull, os.O_RDONLY)
    with pytest.raises((UserCancelled, WindowFailed)):
        await asyncio.wait_for(consent, 10)


async def test_the_command_in_the_foreground_gone_is_a_cancellation(terminal: Terminal) -> None:
    session = await open_on(terminal)
    consent = asyncio.create_task(session.consent())
    await terminal.sees("New PIN: ")
    session.cancel()
    with pytest.raises(UserCancelled):
        await asyncio.wait_for(consent, 10)
    with pytest.raises(UserCancelled):
        await session.show_progress("keys", "Making the keys", 0, 1)


async def test_progress_details_and_a_puk_shown_once(terminal: Terminal) -> None:
    session = await open_on(terminal)
    await session.show_progress("keys", "Making the keys", 1, 3)
    await terminal.sees("[2/3] Making the keys")
    await session.raise_window()
    puk = bytearray(b"12345678")
    await session.show_details(CARD, puk)
    await terminal.sees("PUK     12345678")
    assert puk == bytes(8)
    await asyncio.wait_for(session.wait_closed(), 10)
    assert session.failure is None


async def test_an_error_is_written_in_three_parts(terminal: Terminal) -> None:
    session = await Windows().open_error(
        InlayError("portal_unknown", portal="portal.example.net"), UserEnvironment({}, tty=terminal.theirs)
    )
    await terminal.sees("Inlay does not know this portal.")
    await terminal.sees("Why: ")
    await terminal.sees("Next: ")
    await terminal.sees("(portal_unknown)")
    assert session.failure is None


async def test_the_descriptor_stays_its_owners(terminal: Terminal) -> None:
    session = await open_on(terminal)
    await session.close()
    await session.close()
    assert os.isatty(terminal.theirs)


async def test_a_descriptor_that_is_closed_is_a_failure_not_a_cancellation(terminal: Terminal) -> None:
    os.close(terminal.theirs)
    with pytest.raises(WindowFailed):
        await open_on(terminal)
    terminal.theirs = os.open(os.devnull, os.O_RDONLY)


KNOWN = replace(
    PROMPT, origin="", account="", known=KnownSecret("PIN of the card", 6, 8), warning="This is the last try."
)


async def test_a_known_pin_of_a_wrong_form_is_asked_again_and_the_card_is_not_asked(
    terminal: Terminal,
) -> None:
    session = await Windows().open_cards(UserEnvironment({}, tty=terminal.theirs))
    asking = asyncio.create_task(session.ask(KNOWN))
    await terminal.sees("! This is the last try.")
    for typed in ("12345", "123456789", "12345\u00e9"):
        await terminal.sees("PIN of the card (an empty line cancels): ")
        assert not terminal.echoes()
        terminal.types(typed + "\n")
        await terminal.sees("It has 6 to 8 characters. The card was not asked.")
    await terminal.sees("PIN of the card")
    terminal.types("654321\n")
    await terminal.sees("New PIN: ")
    terminal.types("abc123\n")
    await terminal.sees("again: ")
    terminal.types("abc123\n")
    answer = await asyncio.wait_for(asking, 10)
    assert (bytes(answer.known or b""), bytes(answer.pin or b"")) == (b"654321", b"abc123")
    assert terminal.echoes()
    again = asyncio.create_task(session.ask(KNOWN))  # the card said no: in the same terminal
    await terminal.sees("PIN of the card")
    terminal.types("\n")
    with pytest.raises(UserCancelled):
        await asyncio.wait_for(again, 10)


@pytest.mark.parametrize("said", ["yes\n", "\n", "delet\n"])
async def test_only_the_word_itself_agrees(terminal: Terminal, said: str) -> None:
    session = await Windows().open_cards(UserEnvironment({}, tty=terminal.theirs))
    prompt = replace(PROMPT, pin_policy=None, confirm_label="Delete", typed="delete")
    asking = asyncio.create_task(session.ask(prompt))
    await terminal.sees("Delete? Type delete: ")
    terminal.types(said)
    with pytest.raises(UserCancelled):
        await asyncio.wait_for(asking, 10)
    session = await Windows().open_cards(UserEnvironment({}, tty=terminal.theirs))
    asking = asyncio.create_task(session.ask(prompt))
    await terminal.sees("Delete? Type delete: ")
    terminal.types("delete\n")
    assert (await asyncio.wait_for(asking, 10)).pin is None
    await session.show_done("The card is deleted", ())
    assert session.closed.is_set()


async def test_a_card_is_chosen_by_its_number(terminal: Terminal) -> None:
    session = await Windows().open_cards(UserEnvironment({}, tty=terminal.theirs))
    cards = [CardChoice("a" * 32, "Work\x1b[2J", "Serial 1"), CardChoice("b" * 32, "Home", "Serial 2")]
    choosing = asyncio.create_task(session.choose("Delete a card", cards))
    await terminal.sees("1  Work?[2J")
    for wrong in ("0", "3", "Home", "-1"):
        await terminal.sees("Type its number")
        terminal.types(wrong + "\n")
        await terminal.sees("There is no such number.")
    await terminal.sees("Type its number")
    terminal.types("2\n")
    assert await asyncio.wait_for(choosing, 10) == "b" * 32
    choosing = asyncio.create_task(session.choose("Delete a card", cards))
    await terminal.sees("Type its number")
    terminal.types("\n")
    with pytest.raises(UserCancelled):
        await asyncio.wait_for(choosing, 10)
    assert session.failure is not None


async def test_a_number_never_stands_for_another_card_than_before(terminal: Terminal) -> None:
    session = await Windows().open_cards(UserEnvironment({}, tty=terminal.theirs))
    stays = CardChoice("2 Two", "Two", "PIV card, blank")
    empty = CardChoice("- Three", "Three", "No card is in it.", usable=False)
    first = [CardChoice("1 One", "One", "PIV card, blank"), stays, empty]
    choosing = asyncio.create_task(session.choose("Which card is it?", first, "Pick the card."))
    await terminal.sees("Pick the card.")
    await terminal.sees("Type its number")
    choosing.cancel()
    await asyncio.gather(choosing, return_exceptions=True)
    again = [CardChoice("3 One", "One", "PIV card, blank"), stays, empty]
    choosing = asyncio.create_task(session.choose("Which card is it?", again, "Pick the card."))
    await terminal.sees("3  One")
    await terminal.sees("Type its number")
    terminal.types("1\n")
    await terminal.sees("There is no such number.")
    await terminal.sees("Type its number")
    terminal.types("2\n")
    assert await asyncio.wait_for(choosing, 10) == "2 Two"


async def test_a_card_is_shown_whole(terminal: Terminal) -> None:
    session = await Windows().open_cards(UserEnvironment({}, tty=terminal.theirs))
    sheet = CardSheet("Card", (("Serial", "4711"),), "The PIN is blocked.", CARD.certificates)
    assert await session.show_card(sheet) is None
    await terminal.sees("Serial       4711")
    await terminal.sees("Signature: CN=M")
    await terminal.sees("! The PIN is blocked.")
    assert session.failure is None
