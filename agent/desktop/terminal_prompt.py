"""The same questions on the caller's terminal, where there is no display.

The descriptor was handed over by `inlay open` or `inlay code`, which stays in the foreground meanwhile
so that the shell reads none of it. The terminal is read when it has a line, never by waiting; the echo
is off while a PIN is typed, and the terminal is given back as it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import termios
from collections.abc import Iterator, Sequence

from agent.desktop import dialog_messages as messages
from agent.desktop import page_messages
from agent.desktop.display_text import clean
from agent.pin_rules import FIRST_PRINTABLE, LAST_PRINTABLE, PinRules, check_pin
from agent.ports import (
    CardChoice,
    CardSheet,
    CardSummary,
    Consented,
    InteractionError,
    OrderPrompt,
    UserCancelled,
    WindowFailed,
)
from protocol.errors import InlayError

MAX_LINE = 1024
_LOCAL_FLAGS = 3
"""Place of the local flags in what termios.tcgetattr returns."""


class TerminalSession:
    """A prompt on a terminal (`agent.ports.CardWindow`)."""

    def __init__(self, consent: messages.Consent | None, tty: int) -> None:
        self._consent = consent
        self._tty = tty
        self._numbers: dict[str, int] = {}
        self._closed = asyncio.Event()
        self._failure: InteractionError | None = None

    @property
    def closed(self) -> asyncio.Event:
        """See `agent.ports.WindowSession.closed`."""
        return self._closed

    @property
    def failure(self) -> InteractionError | None:
        """See `agent.ports.WindowSession.failure`."""
        return self._failure

    async def consent(self) -> Consented:
        """See `agent.ports.WindowSession.consent`."""
        if self._consent is None:
            raise RuntimeError("this terminal was opened without a question")
        return await self._consented(self._consent)

    async def ask(self, prompt: OrderPrompt) -> Consented:
        """See `agent.ports.WindowSession.ask`."""
        self._check()
        return await self._consented(page_messages.consent_message(prompt))

    async def _consented(self, message: messages.Consent) -> Consented:
        self._say_what(message)
        known, pin = None, None
        try:
            if message["known"] is not None:
                known = await self._known(message["known"])
            if message["rules"] is not None:
                pin = await self._new_pin(PinRules(**message["rules"]))
            word = message["typed"] or ("yes" if known is None and pin is None else None)
            if word is not None:
                await self._confirm(message["confirm_label"], word)
        except BaseException:
            Consented(pin, known).wipe()
            raise
        return Consented(pin, known)

    def _say_what(self, message: messages.Consent) -> None:
        self._write("", f"  {message['title']}", "")
        if message["origin"] is not None:
            self._write(f"  Portal   {message['portal_name']}", f"  Address  {message['origin']}")
        if message["reading"]:
            self._write(f"           (letters of another alphabet: {message['reading']})")
        if message["account"]:
            self._write(f"  Account  {message['account']}")
        if message["card"]:
            self._write(f"  Card     {message['card']}")
        self._write("", "  What will happen:", *(f"  - {text}" for text in message["consequences"]), "")
        if message["warning"]:
            self._write(f"  ! {message['warning']}", "")

    async def _known(self, field: messages.KnownFields) -> bytearray:
        """Ask for a PIN or PUK that the person has, until it could be one; an empty line cancels."""
        while True:
            typed = await self._ask(f"  {field['caption']} (an empty line cancels): ", secret=True)
            if not typed:
                raise self._cancelled("consent")
            printable = all(FIRST_PRINTABLE <= byte <= LAST_PRINTABLE for byte in typed)
            if printable and field["shortest"] <= len(typed) <= field["longest"]:
                return typed
            _wipe(typed)
            self._write(
                f"  It has {field['shortest']} to {field['longest']} characters. The card was not asked."
            )

    async def _confirm(self, label: str, word: str) -> None:
        with contextlib.suppress(termios.error):  # a terminal that is gone is told by the question
            termios.tcflush(self._tty, termios.TCIFLUSH)  # what was typed ahead was for another question
        answer = await self._ask(f"  {label}? Type {word}: ")
        if bytes(answer).strip().lower() != word.encode():
            raise self._cancelled("consent")

    async def choose(self, title: str, cards: Sequence[CardChoice], note: str | None = None) -> str:
        """See `agent.ports.WindowSession.choose`; no number ever stands for another card than it did before."""
        self._check()
        message = page_messages.choose_message(title, cards, note)
        self._write("", f"  {message['title']}", *([f"  {message['note']}"] if message["note"] else []), "")
        numbered: dict[int, str] = {}
        for card in message["cards"]:
            number = ""
            if card["usable"]:
                given = self._numbers.setdefault(card["card"], len(self._numbers) + 1)
                numbered[given], number = card["card"], str(given)
            self._write(f"  {number:>3}  {card['label']}", f"       {card['detail']}")
        while True:
            answer = bytes(await self._ask("  Which card? Type its number (an empty line cancels): ")).strip()
            if not answer:
                raise self._cancelled("choose")
            if answer.isdigit() and len(answer) < 4 and int(answer) in numbered:
                return numbered[int(answer)]
            self._write("  There is no such number.")

    async def show_card(self, sheet: CardSheet) -> str | None:
        """See `agent.ports.CardWindow.show_card`; what may be done is told as commands, elsewhere."""
        self._check()
        message = page_messages.card_message(sheet)
        self._write("", f"  {message['title']}", "")
        self._write(*(f"  {name:12} {value}" for name, value in message["fields"]))
        for line in message["certificates"]:
            self._write(f"  - {line['purpose']}: {line['subject']}")
            self._write(f"    valid from {line['not_before']} to {line['not_after']}")
        if message["warning"]:
            self._write(f"  ! {message['warning']}")
        self._end()
        return None

    async def show_done(self, title: str, lines: tuple[str, ...]) -> None:
        """See `agent.ports.WindowSession.show_done`; a command of the person's own says it itself."""
        self._check()
        if self._consent is not None:
            message = page_messages.done_message(title, lines)
            self._write("", f"  {message['title']}", *(f"  - {line}" for line in message["lines"]))
        self._end()

    async def _new_pin(self, rules: PinRules) -> bytearray:
        """Ask for a PIN twice, until it keeps the rules; an empty line cancels."""
        self._write("  Choose a PIN for the card (an empty line cancels):")
        self._write(*(f"  - {rule.text}" for rule in check_pin(rules, b"")))
        while True:
            first = await self._ask("  New PIN: ", secret=True)
            if not first:
                raise self._cancelled("consent")
            broken = [rule.text for rule in check_pin(rules, first) if not rule.satisfied]
            if broken:
                _wipe(first)
                self._write(f"  This PIN can't be used. It needs: {'; '.join(broken)}.")
                continue
            second = await self._ask("  The same PIN again: ", secret=True)
            same = first == second
            _wipe(second)
            if same:
                return first
            _wipe(first)
            self._write("  The two PINs differ. Type both again.")

    async def show_number(self, number: str) -> None:
        """See `agent.ports.WindowSession.show_number`."""
        self._check()
        self._write("", f"  Type {number} in the web page. If you did not start this, press Ctrl-C.", "")

    async def show_progress(
        self, step_id: str, text: str, done: int, total: int, *, can_cancel: bool = True
    ) -> None:
        """See `agent.ports.WindowSession.show_progress`."""
        self._check()
        self._write(f"  [{min(done + 1, total)}/{total}] {clean(text)}")

    async def show_details(self, details: CardSummary, puk: bytearray | None = None) -> None:
        """See `agent.ports.WindowSession.show_details`."""
        self._check()
        ready = "The" if details.storage_level == "card" else "Your"
        self._write("", f"  {ready} card is ready.", f"  Label   {clean(details.label)}")
        self._write(f"  Serial  {clean(details.serial)}", f"  Level   {details.storage_level}")
        if puk is not None:
            self._write(f"  PUK     {puk.decode('ascii', 'replace')}   (shown this once: write it down)")
            _wipe(puk)
        for line in details.certificates:
            self._write(f"  - {clean(line.purpose)}: {clean(line.subject)}")
            self._write(f"    valid from {clean(line.not_before)} to {clean(line.not_after)}")
        self._write(*(f"  {clean(note)}" for note in details.notes))
        self._end()

    async def show_error(self, error: InlayError) -> None:
        """See `agent.ports.WindowSession.show_error`."""
        self._check()
        self._write("", f"  {clean(error.happened)}", f"  Why: {clean(error.why)}")
        self._write(f"  Next: {clean(error.next_step)}", f"  ({error.code})")
        self._end()

    async def raise_window(self) -> None:
        """A terminal can't be raised: its bell is rung."""
        self._check()
        self._put(b"\a")

    async def wait_closed(self) -> None:
        """See `agent.ports.WindowSession.wait_closed`."""
        await self._closed.wait()

    async def close(self) -> None:
        """See `agent.ports.WindowSession.close`."""
        self._end()

    def cancel(self) -> None:
        """The command in the foreground has gone (Ctrl-C): the same as a closed window."""
        if not self._closed.is_set():
            self._cancelled("progress")

    # --- the terminal ---

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _cancelled(self, step: str) -> UserCancelled:
        self._failure = cancelled = UserCancelled(step)
        self._end()
        return cancelled

    def _end(self) -> None:
        if not self._closed.is_set():
            self._closed.set()
            os.close(self._tty)

    def _write(self, *lines: str) -> None:
        self._put("".join(line + "\r\n" for line in lines).encode("utf-8"))

    def _put(self, data: bytes) -> None:
        if self._closed.is_set():
            return
        try:
            os.write(self._tty, data)
        except OSError:
            self._failure = WindowFailed(None)
            self._end()
            raise self._failure from None

    async def _ask(self, question: str, *, secret: bool = False) -> bytearray:
        """Ask for one line; its bytes without the line's end are the caller's to wipe."""
        with _echo_off(self._tty) if secret else contextlib.nullcontext():
            self._put(question.encode("utf-8"))  # after the echo is off: an answer can't come too early
            line = await self._line()
        if secret:
            self._write("")
        return line

    async def _line(self) -> bytearray:
        loop = asyncio.get_running_loop()
        arrived = asyncio.Event()
        loop.add_reader(self._tty, arrived.set)
        waiting = {asyncio.create_task(arrived.wait()), asyncio.create_task(self._closed.wait())}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            loop.remove_reader(self._tty)
        self._check()
        line = bytearray(MAX_LINE)
        try:
            count = os.readv(self._tty, [line])
        except OSError:
            count = 0
        if not count:  # the terminal was closed, or Ctrl-D
            raise self._cancelled("consent")
        del line[count:]
        while line and line[-1] in b"\r\n":
            line.pop()
        return line


@contextlib.contextmanager
def _echo_off(tty: int) -> Iterator[None]:
    before = termios.tcgetattr(tty)
    quiet = termios.tcgetattr(tty)
    quiet[_LOCAL_FLAGS] &= ~termios.ECHO
    termios.tcsetattr(tty, termios.TCSAFLUSH, quiet)  # what was typed ahead is no PIN
    try:
        yield
    finally:
        with contextlib.suppress(termios.error):
            termios.tcsetattr(tty, termios.TCSAFLUSH, before)


def _wipe(secret: bytearray) -> None:
    secret[:] = bytes(len(secret))
