"""The real window on a virtual screen, driven by keys as a person would."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agent.desktop import dialog_process
from agent.desktop.dialog_process import WindowProcess, Windows
from agent.desktop.dialogs import RAISED_MS
from agent.desktop.window_pages import CONSENT_DELAY_MS
from agent.pin_rules import PinRules
from agent.ports import (
    CardSummary,
    CertificateLine,
    Consented,
    NoDisplay,
    OrderPrompt,
    UserCancelled,
    UserEnvironment,
    WindowFailed,
    while_open,
)
from protocol.errors import InlayError
from tests.support.browser_questions import Picture, take_picture
from tests.support.display import VirtualDisplay
from tests.support.processes import wait_until

PIN = "Zx7kQ2"
PROMPT = OrderPrompt(
    portal_name="Example University",
    origin="https://portal.example.edu",
    account="maria.lopez@example.edu",
    title="Create a virtual smart card",
    consequences=("A card is made on this computer.", "Three certificates are issued."),
    pin_policy=PinRules(digits="REQUIRED"),
)
CARD = CardSummary(
    label="Virtual smart card",
    serial="4711",
    storage_level="keystore",
    certificates=(CertificateLine("Signature", "CN=Maria Lopez", "2026-11-22", "2028-11-21"),),
)

OTHER_TK_PROGRAM = """
import tkinter
root = tkinter.Tk(className="Other")
own = root.tk.call("tk", "appname")
print([name for name in root.tk.splitlist(root.tk.call("winfo", "interps")) if name != own])
for name in ["inlay", "Inlay", "tk", "dialogs"]:
    try:
        print(root.tk.call("send", name, "info", "commands"))
    except tkinter.TclError as refused:
        print(refused)
"""
"""Tk lets each of its programs on a display run commands in every other one that is registered there."""

pytestmark = pytest.mark.interop

Opener = Callable[[OrderPrompt], Awaitable["Person"]]


class Person:
    """Looks at a window and types."""

    def __init__(self, window: WindowProcess, screen: VirtualDisplay) -> None:
        self.window = window
        self._screen = screen

    async def sees(self, page: str | None) -> None:
        while self.window.page != page:
            assert not self.window.closed.is_set(), self.window.failure
            await asyncio.sleep(0.01)

    async def types(self, text: str) -> None:
        await asyncio.to_thread(self._screen.xdotool, "type", "--delay", "5", text)

    async def presses(self, *keys: str) -> None:
        await asyncio.to_thread(self._screen.xdotool, "key", "--delay", "20", *keys)

    async def active(self) -> str:
        """The id of the window that has the keyboard; the manager gives it that after it is on the screen."""
        look = self._screen.active_window
        await asyncio.to_thread(wait_until, lambda: bool(look()[0]), "a window with the keyboard")
        return look()[0]

    async def title(self) -> str:
        return await asyncio.to_thread(self._screen.xdotool, "getwindowname", await self.active())

    async def drawn(self) -> Picture:
        """The window, as soon as two looks at it are the same."""
        identifier = await self.active()
        last, now = None, await asyncio.to_thread(take_picture, self._screen, identifier)
        while now != last:
            await asyncio.sleep(0.1)
            last, now = now, await asyncio.to_thread(take_picture, self._screen, identifier)
        return now

    async def closes_by_cross(self) -> None:
        """What the window manager's cross sends: WM_DELETE_WINDOW."""
        await self.presses("alt+F4")


@pytest.fixture
def environment(xvfb: VirtualDisplay) -> UserEnvironment:
    return UserEnvironment({name: xvfb.env[name] for name in ("DISPLAY", "XAUTHORITY")})


@pytest.fixture(autouse=True)
def soft_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test run itself stays dumpable: other tests look into /proc/self."""
    monkeypatch.setattr(dialog_process, "forbid_dumps", lambda: None)


@pytest.fixture
async def opener(xvfb: VirtualDisplay, environment: UserEnvironment) -> AsyncIterator[Opener]:
    opened: list[WindowProcess] = []

    async def open_window(prompt: OrderPrompt) -> Person:
        window = await Windows().open(prompt, environment)
        assert isinstance(window, WindowProcess)
        opened.append(window)
        return Person(window, xvfb)

    yield open_window
    for window in opened:
        await window.close()


async def start(opener: Opener, prompt: OrderPrompt = PROMPT) -> tuple[Person, asyncio.Task[object]]:
    person = await opener(prompt)
    consent: asyncio.Task[object] = asyncio.create_task(person.window.consent())
    await person.sees("consent")
    return person, consent


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Zx7", "Zx7"),  # too short
        ("Zx7kQ2abc", "Zx7kQ2abc"),  # too long: refused, never cut
        ("Zxxkkk", "Zxxkkk"),  # without the digit that is required
        ("Zx7kQ2", "Zx7kQ3"),  # two that differ
        ("Zx7kQ2", ""),
    ],
)
async def test_a_pin_that_breaks_a_rule_can_not_be_sent(opener: Opener, first: str, second: str) -> None:
    person, consent = await start(opener)
    await person.types(first)
    await person.presses("Tab")
    await person.types(second)
    await person.presses("Return")
    await person.presses("Tab", "Tab", "Return")  # past “Show the PIN”, on to the buttons
    with pytest.raises(UserCancelled):  # the only button that is to be reached is Cancel
        await asyncio.wait_for(consent, 20)


@pytest.mark.parametrize("way", ["Escape", "cross"])
async def test_closing_is_cancelling(opener: Opener, way: str) -> None:
    person, consent = await start(opener)
    await person.types(PIN)
    await (person.closes_by_cross() if way == "cross" else person.presses(way))
    with pytest.raises(UserCancelled) as caught:
        await asyncio.wait_for(consent, 20)
    assert caught.value.step == "consent"
    assert caught.value.code == "user_cancelled"
    await asyncio.wait_for(person.window.closed.wait(), 20)
    with pytest.raises(UserCancelled):
        await person.window.show_number("123")


async def test_a_window_that_dies_is_not_taken_for_a_person(opener: Opener) -> None:
    person, consent = await start(opener)
    os.kill(person.window.process_id, signal.SIGKILL)
    with pytest.raises(WindowFailed) as caught:
        await asyncio.wait_for(consent, 20)
    assert caught.value.exit_status == -signal.SIGKILL
    assert caught.value.code == "window_failed"


async def test_a_display_that_is_not_there_is_named() -> None:
    with pytest.raises(WindowFailed) as caught:
        await Windows().open(PROMPT, UserEnvironment({"DISPLAY": ":987"}))
    assert caught.value.exit_status == 3


async def test_neither_display_nor_terminal_is_named() -> None:
    with pytest.raises(NoDisplay):
        await Windows().open(PROMPT, UserEnvironment({}))


async def test_the_pin_arrives_and_is_in_no_argument_or_environment(opener: Opener) -> None:
    person, consent = await start(opener)
    await person.types(PIN)
    await person.presses("Return")
    await person.types(PIN)
    await person.presses("Return")
    answer = await asyncio.wait_for(person_consent(consent), 20)
    assert bytes(answer.pin or b"") == PIN.encode()
    assert PIN not in repr(answer)
    assert not shows_pin(os.getpid())
    assert not shows_pin(person.window.process_id)
    answer.wipe()
    assert bytes(answer.pin or b"") == bytes(len(PIN))


def shows_pin(process: int) -> bool:
    return any(
        PIN.encode() in Path(f"/proc/{process}/{name}").read_bytes() for name in ("cmdline", "environ")
    )


async def person_consent(consent: asyncio.Task[object]) -> Consented:
    answer = await consent
    assert isinstance(answer, Consented)
    return answer


async def test_the_windows_process_has_no_core_file_and_only_the_handed_environment(opener: Opener) -> None:
    person, consent = await start(opener)
    folder = Path(f"/proc/{person.window.process_id}")
    limits = folder.joinpath("limits").read_text().splitlines()
    (core,) = [line for line in limits if line.startswith("Max core file size")]
    assert core.split()[4:6] == ["0", "0"]
    names = {entry.split(b"=")[0] for entry in folder.joinpath("environ").read_bytes().split(b"\0") if entry}
    assert names <= {b"DISPLAY", b"XAUTHORITY", b"HOME"}
    consent.cancel()


async def test_a_step_that_comes_again_is_the_last_one_and_undoes_nothing(
    opener: Opener, xvfb: VirtualDisplay
) -> None:
    """As when the card is to be put back: the window is the one in which that step comes for the first time."""
    again = ("card", "Put the card back", 0), ("keys", "Making keys", 2), ("card", "Looking for it", 0)
    once = ("card", "Put the card back", 2), ("keys", "Making keys", 2)
    pictures = []
    for steps in (again, once):
        person = await opener(PROMPT)
        for step, text, done in reversed(steps):
            await person.window.show_progress(step, text, done, 3)
        await person.sees("progress")
        pictures.append(await person.drawn())
        await person.window.close()
    assert pictures[0] == pictures[1]


async def test_the_whole_order_in_one_window(opener: Opener) -> None:
    person, consent = await start(opener)
    assert await person.title() == "Create a virtual smart card - Inlay"
    await person.types(PIN)
    await person.presses("Tab")
    await person.types(PIN)
    await person.presses("Return")
    (await asyncio.wait_for(person_consent(consent), 20)).wipe()
    await person.sees("progress")
    window = person.window
    await window.show_number("417")
    await person.sees("number")
    assert (await person.title()).startswith("417 ")
    await window.show_progress("keys", "Making the keys", 0, 2)
    await window.show_progress("certificates", "Asking for certificates", 1, 2, can_cancel=False)
    await person.sees("progress")
    await person.presses("Escape")
    await person.sees(None)  # too late to cancel: the window hides
    assert window.failure is None
    puk = bytearray(b"12345678")
    await window.show_details(CARD, puk)
    assert puk == bytes(8)
    await person.sees("details")  # and comes back with the result
    await person.presses("Return")
    await asyncio.wait_for(window.wait_closed(), 20)
    assert window.failure is None


async def test_cancelling_while_the_number_is_shown_stops_the_work(opener: Opener) -> None:
    person, consent = await start(opener, replace(PROMPT, pin_policy=None))
    await asyncio.sleep(0.8)  # consent without a PIN is not given at once
    await person.presses("Tab", "Return")
    assert (await asyncio.wait_for(person_consent(consent), 20)).pin is None
    await person.window.show_number("003")
    await person.sees("number")
    never = asyncio.Event()
    work = asyncio.create_task(while_open(person.window, never.wait()))
    await person.presses("Escape")
    with pytest.raises(UserCancelled) as caught:
        await asyncio.wait_for(work, 20)
    assert caught.value.step == "number"


async def test_consent_without_a_pin_is_not_given_by_a_key_that_was_on_its_way(opener: Opener) -> None:
    person, consent = await start(opener, replace(PROMPT, pin_policy=None, confirm_label="Delete"))
    await person.presses("Return")  # the focus is on Cancel
    with pytest.raises(UserCancelled):
        await asyncio.wait_for(consent, 20)


async def test_a_page_that_follows_consent_at_once_stays(opener: Opener) -> None:
    """The portal takes the order back before the button of consent could be pressed: its page is gone by then."""
    person, consent = await start(opener, replace(PROMPT, pin_policy=None))
    await person.window.show_error(InlayError("cancelled_at_portal"))
    await person.sees("error")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(person.window.closed.wait(), 2 * CONSENT_DELAY_MS / 1000)
    await person.presses("Escape")
    with pytest.raises(UserCancelled):
        await asyncio.wait_for(consent, 10)
    assert person.window.failure is None


async def test_an_error_is_shown_and_closing_it_is_no_cancellation(
    xvfb: VirtualDisplay, environment: UserEnvironment
) -> None:
    window = await Windows(appearance="dark").open_error(
        InlayError("portal_unknown", portal="portal.example.net"), environment
    )
    assert isinstance(window, WindowProcess)
    person = Person(window, xvfb)
    await person.sees("error")
    assert await person.title() == "Inlay does not know this portal. - Inlay"
    await person.presses("Escape")
    await asyncio.wait_for(window.wait_closed(), 20)
    assert window.failure is None
    await window.close()


async def test_a_window_whose_agent_is_gone_says_so_and_stays(
    xvfb: VirtualDisplay, environment: UserEnvironment
) -> None:
    window = await Windows().open(PROMPT, environment)
    assert isinstance(window, WindowProcess)
    consent = asyncio.create_task(window.consent())
    person = Person(window, xvfb)
    await person.sees("consent")
    window._writer.get_extra_info("socket").shutdown(1)
    await person.sees("error")
    assert (await person.title()).startswith("Inlay's agent has stopped.")
    await person.presses("Return")
    with pytest.raises(UserCancelled):
        await asyncio.wait_for(consent, 20)
    await window.close()


async def test_a_window_behind_another_is_raised(opener: Opener, xvfb: VirtualDisplay) -> None:
    person, consent = await start(opener)
    other, second = await start(opener)
    window = await asyncio.to_thread(xvfb.xdotool, "getactivewindow")
    await person.window.raise_window()
    await asyncio.to_thread(
        wait_until, lambda: xvfb.xdotool("getactivewindow") != window, "the other window in front"
    )
    await person.presses("Escape")
    with pytest.raises(UserCancelled):
        await asyncio.wait_for(consent, 20)
    assert not other.window.closed.is_set()
    second.cancel()


async def test_at_360_pixels_and_a_low_screen_the_buttons_are_still_there(
    opener: Opener, xvfb: VirtualDisplay
) -> None:
    person, consent = await start(opener)
    window = await asyncio.to_thread(xvfb.xdotool, "getactivewindow")
    await asyncio.to_thread(xvfb.xdotool, "windowsize", "--sync", window, "360", "420")
    await person.types(PIN)
    await person.presses("Tab")
    await person.types(PIN)
    geometry = await asyncio.to_thread(xvfb.xdotool, "getwindowgeometry", "--shell", window)
    assert "WIDTH=360" in geometry
    assert "HEIGHT=420" in geometry
    await asyncio.to_thread(xvfb.xdotool, "mousemove", "--window", window, "300", "388", "click", "1")
    (await asyncio.wait_for(person_consent(consent), 20)).wipe()


async def other_program(xvfb: VirtualDisplay, text: str) -> subprocess.CompletedProcess[str]:
    """A Python program of somebody else on the same display, run to its end."""
    environment = {**os.environ, **xvfb.env}
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", text],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


async def test_another_tk_program_of_the_display_can_have_no_command_run_in_the_window(
    opener: Opener, xvfb: VirtualDisplay
) -> None:
    person, consent = await start(opener)
    done = await other_program(xvfb, OTHER_TK_PROGRAM)
    assert done.returncode == 0, done.stderr
    others, *answers = done.stdout.splitlines()
    assert others == "[]"
    assert len(answers) == 4
    assert all(answer.startswith("no application named") for answer in answers)
    await person.presses("Escape")
    with pytest.raises(UserCancelled):
        await asyncio.wait_for(consent, 20)


async def test_what_is_selected_in_a_pin_that_is_shown_is_no_other_programs_to_paste(
    opener: Opener, xvfb: VirtualDisplay
) -> None:
    person, consent = await start(opener)
    await person.types(PIN)
    await person.presses("Tab", "Tab", "space", "shift+Tab", "shift+Tab")
    shown = await person.drawn()
    await person.presses("Tab", "Tab", "space", "shift+Tab", "shift+Tab")
    assert await person.drawn() != shown
    await person.presses("Tab", "Tab", "space", "shift+Tab", "shift+Tab")
    assert await person.drawn() == shown
    done = await other_program(xvfb, "import tkinter; print(tkinter.Tk().selection_get())")
    assert done.stdout == ""
    assert "selection doesn't exist" in done.stderr
    await person.presses("Escape")
    with pytest.raises(UserCancelled):
        await asyncio.wait_for(consent, 20)


async def test_a_number_that_comes_just_after_the_window_was_raised_stays_above_all_others(
    opener: Opener, xvfb: VirtualDisplay
) -> None:
    person, consent = await start(opener)
    await person.window.show_number("417")  # before what the consent had put in front is let go
    await person.sees("number")
    window = await asyncio.to_thread(xvfb.xdotool, "getactivewindow")
    looks = RAISED_MS // 50 + 2
    for _ in range(looks):
        await asyncio.sleep(0.05)
        assert await asyncio.to_thread(xvfb.stays_above, window)
    consent.cancel()
