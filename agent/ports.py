"""The seams between the agent's core and the world: what the core asks of windows.

The core (orders, handlers, journal) never touches a screen. It talks to the small protocols below,
and gets values and named errors back. `agent.desktop` implements them twice: as a window in a child
process, and as a prompt on the caller's terminal.

Errors that a person's side can raise::

    InlayError
    └── InteractionError
        ├── UserCancelled    the person said no, or closed the window     user_cancelled
        ├── WindowFailed     the window's process ended by itself         window_failed
        └── NoDisplay        neither a display nor a terminal to ask on   no_display

How long a person may take is the order's business: the core waits with its own deadline and raises
``user_timeout`` itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from agent.given_up import give_up
from agent.pin_rules import PinPolicyLike
from protocol.errors import InlayError

T = TypeVar("T")


# --- what is shown -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KnownSecret:
    """A PIN or PUK that the person has to know already.

    Attributes:
        caption: what stands before its field, for example "PIN of the card".
        shortest: bytes it has at the least; nothing shorter is ever sent to the card.
        longest: bytes it has at the most.
    """

    caption: str
    shortest: int
    longest: int


@dataclass(frozen=True, slots=True)
class OrderPrompt:
    """What the consent page says. All of it comes from a verified order and the trust entry.

    A command of the person's own has no portal behind it: `origin` and `account` are empty then.

    Attributes:
        portal_name: the name in the agent's own trust entry, never one the order brought.
        origin: the exact origin, ``scheme://host[:port]``; an IDN host in either form.
        account: the account the order is for, as the portal writes it.
        title: what is going to be done, for example "Create a virtual smart card".
        consequences: one sentence each; what is different afterwards.
        pin_policy: the rules for a new PIN, or None when consent alone is asked.
        confirm_label: the text of the button that agrees, a verb.
        card: the card it is about, when there is one already.
        known: a PIN or PUK that is asked for before the new PIN.
        warning: what has to be read before anything is typed, for example how many tries are left.
        typed: a word that has to be typed to agree.
        working: what is done once the person has agreed.
    """

    portal_name: str
    origin: str
    account: str
    title: str
    consequences: tuple[str, ...]
    pin_policy: PinPolicyLike | None
    confirm_label: str = "Create"
    card: str | None = None
    known: KnownSecret | None = None
    warning: str | None = None
    typed: str | None = None
    working: str = "Telling the portal"


@dataclass(frozen=True, slots=True)
class CertificateLine:
    """One certificate on the details page; validity as ISO 8601 dates (``2026-11-22``)."""

    purpose: str
    subject: str
    not_before: str
    not_after: str


@dataclass(frozen=True, slots=True)
class CardSummary:
    """What the details page says about a finished card.

    Attributes:
        label: the card's label.
        serial: the card's serial as printed on cards (decimal or hexadecimal text).
        storage_level: ``tpm``, ``keystore`` or ``file``.
        certificates: in the order of their slots.
        notes: further sentences, for example that no PC/SC service runs.
    """

    label: str
    serial: str
    storage_level: str
    certificates: tuple[CertificateLine, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CardChoice:
    """One card to choose from.

    Attributes:
        card: what the answer names it by: the name of its file, or of a card in a reader until it is taken out.
        label: what it is called.
        detail: what tells it from others: serial, account, or why it can't be used.
        usable: it can be chosen; else it is only shown.
    """

    card: str
    label: str
    detail: str
    usable: bool = True


@dataclass(frozen=True, slots=True)
class CardSheet:
    """What is shown of a card, and what may be done with it.

    Attributes:
        title: the card's label.
        fields: name and value, one line each.
        warning: what is wrong with it, or None.
        certificates: in the order of their slots.
        actions: name and label of what may be done, in the order of the buttons.
    """

    title: str
    fields: tuple[tuple[str, str], ...]
    warning: str | None
    certificates: tuple[CertificateLine, ...]
    actions: tuple[tuple[str, str], ...] = ()


# --- what comes back ---------------------------------------------------------------------------


@dataclass(slots=True)
class Consented:
    """The person agreed.

    Attributes:
        pin: the new PIN's bytes (printable ASCII), or None when none was asked. The receiver owns it
            and calls `wipe` as soon as it has been used. It is never printed.
        known: the PIN or PUK that was asked for besides, or None.
    """

    pin: bytearray | None = field(repr=False)
    known: bytearray | None = field(default=None, repr=False)

    def wipe(self) -> None:
        """Overwrite what was typed with zeros. Best effort: Python may have copied bytes before."""
        for secret in (self.pin, self.known):
            if secret is not None:
                secret[:] = bytes(len(secret))


class InteractionError(InlayError):
    """The person could not be asked, or did not agree; a row of the error table as any other."""


class UserCancelled(InteractionError):
    """The person cancelled or closed the window.

    Attributes:
        step: the page that was shown: ``consent``, ``number`` or ``progress``.
    """

    def __init__(self, step: str) -> None:
        super().__init__("user_cancelled")
        self.step = step


class WindowFailed(InteractionError):
    """The window's process ended without an answer; never mistaken for a person's cancelling.

    Attributes:
        exit_status: its exit status; negative is the signal that ended it; None when it never ran.
    """

    def __init__(self, exit_status: int | None) -> None:
        super().__init__("window_failed")
        self.exit_status = exit_status


class NoDisplay(InteractionError):
    """There is neither a display nor a terminal to ask on."""

    def __init__(self) -> None:
        super().__init__("no_display")


# --- the seams ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UserEnvironment:
    """Where the person sits, as `inlay open` or `inlay code` handed it over.

    Attributes:
        variables: the allowed variables alone (`agent.desktop.paths.ENVIRONMENT_ALLOWED`).
        tty: an open descriptor of the caller's terminal, or None. Whoever made this value owns it, keeps
            it open until the session is closed, and closes it; a session works on its own duplicate.
    """

    variables: Mapping[str, str]
    tty: int | None = None

    @property
    def has_display(self) -> bool:
        """Whether an X11 display is named (Tk speaks X11; Wayland desktops run XWayland)."""
        return bool(self.variables.get("DISPLAY"))


class WindowSession(Protocol):
    """One window for one order, from consent to the last page.

    Methods may be called in any order after `consent`; each replaces the page that is shown. Each
    raises `WindowFailed` when the window is dead, and `UserCancelled` when the person has cancelled.
    """

    @property
    def closed(self) -> asyncio.Event:
        """Set when the window is gone, for whatever reason; `failure` says which."""

    @property
    def failure(self) -> InteractionError | None:
        """Why the window is gone: `UserCancelled`, `WindowFailed`; None while open or after `close`."""

    async def consent(self) -> Consented:
        """Show the consent page and wait for the answer.

        Raises:
            UserCancelled: Cancel, Escape, or the window closed.
            WindowFailed: the window's process died.
        """

    async def ask(self, prompt: OrderPrompt) -> Consented:
        """Ask something further in this window, for example the PIN once more, and wait for the answer.

        Raises:
            UserCancelled: Cancel, Escape, or the window closed.
            WindowFailed: the window's process died.
        """

    async def choose(self, title: str, cards: Sequence[CardChoice], note: str | None = None) -> str:
        """Let the person choose one of several cards; its name.

        Args:
            title: heading of the page.
            cards: what there is.
            note: with one, the list follows what is there: none is chosen beforehand, and when this is called again
                the list changes in its place and keeps what was chosen while that is there. An answer to an earlier
                list may come: see that what it names is there.

        Raises:
            UserCancelled: Cancel, Escape, or the window closed.
            WindowFailed: the window's process died.
        """

    async def show_number(self, number: str) -> None:
        """Show the three digits to be typed into the web page; also in the window's title."""

    async def show_progress(
        self, step_id: str, text: str, done: int, total: int, *, can_cancel: bool = True
    ) -> None:
        """Show that the step `step_id` is under way; steps before it get a tick.

        Args:
            step_id: stable name of the step.
            text: what is being done, in the person's words.
            done: steps finished before this one, 0 ≤ done ≤ total.
            total: number of steps, at least 1.
            can_cancel: False after the point of no return: closing the window then only hides it.
        """

    async def show_details(self, details: CardSummary, puk: bytearray | None = None) -> None:
        """Show the finished card. A window closed from now on is no cancellation.

        Args:
            details: what is shown.
            puk: shown this once when the portal keeps no copy; travels over the secret pipe and is
                wiped by this call.
        """

    async def show_done(self, title: str, lines: tuple[str, ...]) -> None:
        """Say that it is done. A window closed from now on is no cancellation."""

    async def show_error(self, error: InlayError) -> None:
        """Show what happened, why, and what to do next. A window closed now is no cancellation."""

    async def raise_window(self) -> None:
        """Bring the window to the front (the same link came again)."""

    async def wait_closed(self) -> None:
        """Wait until the person has closed the window (details and error pages)."""

    async def close(self) -> None:
        """Close the window and end its process; harmless when it is closed already."""


class CardWindow(WindowSession, Protocol):
    """A window about a card of the person's, at the person's own command."""

    async def show_card(self, sheet: CardSheet) -> str | None:
        """Show a card; the action that was chosen, None when the window was closed.

        Raises:
            WindowFailed: the window's process died.
        """


class DialogWindow(Protocol):
    """Opens windows: in a child process with a display, on the terminal without one."""

    async def open(self, request: OrderPrompt, environment: UserEnvironment) -> WindowSession:
        """Open a window for an order that has been verified; nothing is asked yet.

        Raises:
            NoDisplay: neither a display nor a terminal.
            WindowFailed: the window could not be started.
        """

    async def open_cards(self, environment: UserEnvironment) -> CardWindow:
        """Open a window for a command about cards; nothing is shown yet.

        Raises:
            NoDisplay: neither a display nor a terminal.
            WindowFailed: the window could not be started.
        """

    async def open_error(self, error: InlayError, environment: UserEnvironment) -> WindowSession:
        """Open a window that shows nothing but an error (a request the person made by hand).

        Raises:
            NoDisplay: neither a display nor a terminal.
            WindowFailed: the window could not be started.
        """


class Notifier(Protocol):
    """Short messages outside any window, at most three a minute."""

    async def notify(self, error: InlayError, environment: UserEnvironment) -> bool:
        """Show a notification; returns False when it was held back or nothing can show it."""


async def while_open(window: WindowSession, work: Awaitable[T]) -> T:
    """Wait for `work`, giving it up as soon as the window is closed.

    Raises:
        InteractionError: the window's `failure`, after `work` has been cancelled and has ended.
    """
    task = asyncio.ensure_future(work)
    watcher = asyncio.create_task(window.closed.wait())
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done() and window.failure is not None:
            raise window.failure
        return await task
    finally:
        watcher.cancel()
        await give_up(task)
