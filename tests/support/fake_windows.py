"""Windows that nobody sees: a test says what the person does, and looks at what was shown."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from agent.handlers import picked_card
from agent.ports import (
    CardChoice,
    CardSheet,
    CardSummary,
    Consented,
    InteractionError,
    OrderPrompt,
    UserCancelled,
    UserEnvironment,
)
from protocol.errors import InlayError

PIN = b"Zq7-91xK"
"""Appears nowhere but in the window: tests search files and logs for it."""


Answer = tuple[bytes | None, bytes | None] | InteractionError
"""What is typed when something is asked: the known PIN or PUK, and the new PIN."""


@dataclass
class FakeWindow:
    """One window; see ``agent.ports.WindowSession``."""

    prompt: OrderPrompt | None
    answer: bytes | InteractionError | None = PIN
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    failure: InteractionError | None = None
    shown: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    cancellable: list[bool] = field(default_factory=list)
    """of each of the ``texts``, whether closing the window there ends it"""
    asking: Callable[[], object] = lambda: None
    """what happens while the person answers"""
    this_card: InteractionError | None = None
    """what the person says where it isn't the card whose number the window shows"""
    confirming: Callable[[], object] = lambda: None
    """what happens while the person compares"""
    confirmed: list[OrderPrompt] = field(default_factory=list)
    """what was asked there; it isn't among the `asked`"""
    number: str | None = None
    details: CardSummary | None = None
    puk: bytes | None = None
    error: InlayError | None = None
    raised: int = 0
    pin: bytearray | None = None
    answers: deque[Answer] = field(default_factory=deque)
    asked: list[OrderPrompt] = field(default_factory=list)
    given: list[Consented] = field(default_factory=list)
    choices: list[tuple[CardChoice, ...]] = field(default_factory=list)
    choice: int = 0
    picks: asyncio.Queue[str] | None = None
    """what the person picks, when; None: `choice` at once"""
    sheets: list[CardSheet] = field(default_factory=list)
    action: str | None = None
    done: tuple[str, tuple[str, ...]] | None = None
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    person: Callable[[], object] = lambda: None
    """called whenever a person is waited for"""

    async def consent(self) -> Consented:
        await self._show("consent")
        if isinstance(self.answer, InteractionError):
            raise self.answer
        if self.answer is None:
            await asyncio.Event().wait()
        assert self.answer is not None
        self.pin = bytearray(self.answer)
        return Consented(self.pin)

    async def ask(self, prompt: OrderPrompt) -> Consented:
        self.person()
        if prompt.title == picked_card.TITLE:
            return await self._confirm(prompt)
        self.asked.append(prompt)
        await self._show("ask")
        self.asking()
        if not self.answers:
            await self.closed.wait()
            raise self.failure or UserCancelled("consent")
        answer = self.answers.popleft()
        if isinstance(answer, InteractionError):
            raise answer
        known, pin = answer
        given = Consented(
            None if pin is None else bytearray(pin), None if known is None else bytearray(known)
        )
        self.given.append(given)
        return given

    async def _confirm(self, prompt: OrderPrompt) -> Consented:
        self.confirmed.append(prompt)
        await self._show("confirm")
        self.confirming()
        if self.this_card is not None:
            raise self.this_card
        return Consented(None)

    async def choose(self, title: str, cards: Sequence[CardChoice], note: str | None = None) -> str:
        self.choices.append(tuple(cards))
        if note is not None:
            self.texts.append(note)
        self.person()
        await self._show("choose")
        if self.picks is None:
            usable = [card for card in cards if card.usable]
            chosen = cards[self.choice]
            return chosen.card if chosen.usable or not usable else usable[0].card
        return await self.picks.get()

    async def show_card(self, sheet: CardSheet) -> str | None:
        self.sheets.append(sheet)
        await self._show("card")
        return self.action

    async def show_done(self, title: str, lines: tuple[str, ...]) -> None:
        self.done = (title, lines)
        await self._show("done")

    async def show_number(self, number: str) -> None:
        self.number = number
        await self._show("number")

    async def show_progress(
        self, step_id: str, text: str, done: int, total: int, *, can_cancel: bool = True
    ) -> None:
        assert text
        assert 0 <= done <= total
        self.texts.append(text)
        self.cancellable.append(can_cancel)
        await self._show(step_id)

    async def show_details(self, details: CardSummary, puk: bytearray | None = None) -> None:
        self.details = details
        self.puk = None if puk is None else bytes(puk)
        await self._show("details")

    async def show_error(self, error: InlayError) -> None:
        self.error = error
        await self._show(error.code)

    async def raise_window(self) -> None:
        self.raised += 1
        await self._show("raised")

    async def wait_closed(self) -> None:
        await self.closed.wait()

    async def close(self) -> None:
        self.closed.set()

    async def close_by_person(self) -> None:
        """The person closes the window."""
        self.failure = UserCancelled(self.shown[-1])
        self.closed.set()

    async def until(self, page: str, times: int = 1) -> None:
        """Wait until a page was shown."""
        async with asyncio.timeout(20), self.changed:
            await self.changed.wait_for(lambda: self.shown.count(page) >= times)

    async def until_said(self, words: str) -> None:
        """Wait until a progress page has said something."""
        async with asyncio.timeout(20), self.changed:
            await self.changed.wait_for(lambda: any(words in text for text in self.texts))

    async def _show(self, page: str) -> None:
        async with self.changed:
            self.shown.append(page)
            self.changed.notify_all()


@dataclass
class FakeWindows:
    """Opens them; see ``agent.ports.DialogWindow``."""

    answer: bytes | InteractionError | None = PIN
    refuse: InteractionError | None = None
    opened: list[FakeWindow] = field(default_factory=list)
    environments: list[UserEnvironment] = field(default_factory=list)
    answers: Sequence[Answer] = ()
    choice: int = 0
    action: str | None = None
    this_card: InteractionError | None = None
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    person: Callable[[], object] = lambda: None
    """called whenever a window waits for a person"""

    async def open(self, request: OrderPrompt, environment: UserEnvironment) -> FakeWindow:
        if self.refuse is not None:
            raise self.refuse
        made = FakeWindow(
            request,
            self.answer,
            answers=deque(self.answers),
            choice=self.choice,
            this_card=self.this_card,
        )
        return await self._add(made, environment)

    async def open_error(self, error: InlayError, environment: UserEnvironment) -> FakeWindow:
        return await self._add(FakeWindow(None, error=error, shown=[error.code]), environment)

    async def open_cards(self, environment: UserEnvironment) -> FakeWindow:
        if self.refuse is not None:
            raise self.refuse
        made = FakeWindow(None, answers=deque(self.answers), choice=self.choice, action=self.action)
        return await self._add(made, environment)

    async def first(self) -> FakeWindow:
        """Wait for the first window."""
        async with asyncio.timeout(20), self.changed:
            await self.changed.wait_for(lambda: bool(self.opened))
        return self.opened[0]

    async def _add(self, window: FakeWindow, environment: UserEnvironment) -> FakeWindow:
        window.person = self.person
        async with self.changed:
            self.opened.append(window)
            self.environments.append(environment)
            self.changed.notify_all()
        return window


@dataclass
class FakeNotifier:
    """Collects notifications; see ``agent.ports.Notifier``."""

    errors: list[InlayError] = field(default_factory=list)

    async def notify(self, error: InlayError, environment: UserEnvironment) -> bool:
        self.errors.append(error)
        return True
