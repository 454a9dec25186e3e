"""The pages of the window, each built by one class from one message."""

from __future__ import annotations

import tkinter as tk
from collections.abc import Callable
from tkinter import ttk

from agent.desktop import dialog_messages as messages
from agent.desktop.window_card_pages import certificate_panel
from agent.desktop.window_column import Column, SymbolLine
from agent.desktop.window_fields import Field, KnownField, NewPin, TypedWord, chain, reveal_box
from agent.desktop.window_parts import Action, Shell
from agent.pin_rules import PinRules

CONSENT_DELAY_MS = 700
"""Consent without a PIN can't be given by a key or click that was on its way to another window: so long it waits
whenever its window has come to the front, which a page can bring about by its link at a moment of its choice."""

READ_FIRST = "Read to the end first: scroll, or press Page Down."
"""Why the button that goes on waits, where what will happen isn't on the screen in full."""

LEVELS = {
    "tpm": "This computer's TPM chip",
    "keystore": "The key store of your login",
    "card": "The card itself",
    "file": "A protected file on this computer",
}


class ConsentPage:
    """Who asks, for which account, what will happen, and what has to be typed for it."""

    def __init__(
        self,
        shell: Shell,
        message: messages.Consent,
        agree: Callable[[list[bytearray]], None],
        cancel: Action,
    ) -> None:
        self._shell = shell
        self._agree = agree
        shell.clear(f"{message['title']} - Inlay")
        column = Column(shell, shell.body)
        column.heading(message["title"])
        self._who(column, message)
        if message["warning"]:
            panel = column.panel(above=8)
            panel.text(message["warning"], colour=shell.theme.palette.bad_text, above=10, below=10)
        column.section("What will happen")
        for consequence in message["consequences"]:
            SymbolLine(column, "bullet", consequence)
        self._secrets: list[KnownField | NewPin] = []
        self._fields = self._asked(column, message)
        column.text("", above=4)
        self._cancel_button, self._agree_button = shell.buttons(
            escape=("Cancel", cancel), default=(message["confirm_label"], self._confirm)
        )
        self._agree_button.state(["disabled"])
        if self._fields:
            entries = tuple(entry for field in self._fields for entry in field.entries)
            chain(entries)
            shell.first = entries[0]
        else:
            shell.first = self._cancel_button
        self._waiting = ""
        self._read = False
        shell.follow_view(self._look)
        self.wait()

    def wait(self) -> None:
        """The window has come to the front: what was pressed for another one agrees to nothing here."""
        if self._fields or not self._agree_button.winfo_exists():
            return  # what has to be typed is meant for this window
        if self._waiting:
            self._shell.root.after_cancel(self._waiting)
        self._agree_button.state(["disabled"])
        self._waiting = self._shell.root.after(CONSENT_DELAY_MS, self._allow)

    def _allow(self) -> None:
        self._waiting = ""
        if self._agree_button.winfo_exists():  # another page may have come meanwhile
            self._look()

    def _look(self) -> None:
        """Let go on who has had the whole page on the screen, and tell the others why not."""
        if self._fields or self._waiting:
            return
        self._read = self._read or self._shell.end_in_view()
        self._agree_button.state(["!disabled" if self._read else "disabled"])
        self._shell.explain("" if self._read else READ_FIRST)

    def _who(self, column: Column, message: messages.Consent) -> None:
        lines = [(name, message[name.lower()]) for name in ("Account", "Card")]  # type: ignore[literal-required]
        given = [(name, value) for name, value in lines if value]
        who = column.panel(above=6) if given else column
        for place, (name, value) in enumerate(given):
            above, below = 10 if place == 0 else 2, 10 if place == len(given) - 1 else 2
            who.field(name, value, above=above, below=below)
        if message["reading"]:
            note = f"The address above has letters of another alphabet. It reads “{message['reading']}”."
            column.text(note, colour=self._shell.theme.palette.bad_text, above=8)

    def _asked(self, column: Column, message: messages.Consent) -> list[Field]:
        """The fields that the message asks for, in the order in which they are filled in."""
        known, fresh = None, None
        if message["known"] is not None:
            known = KnownField(self._shell, column, message["known"], self._update)
            self._secrets.append(known)
        if message["rules"] is not None:
            heading = "Choose a PIN for the card" if known is None else "Choose a new PIN"
            fresh = NewPin(self._shell, column, PinRules(**message["rules"]), self._update, heading)
            self._secrets.append(fresh)
        if self._secrets:
            entries = tuple(entry for field in self._secrets for entry in field.entries)
            text = "Show the PIN" if known is None else "Show what I type"
            reveal_box(self._shell, column, entries, text)
        if fresh is not None:
            fresh.show_rules()
        fields: list[Field] = list(self._secrets)
        if message["typed"] is not None:
            fields.append(TypedWord(self._shell, column, message["typed"], self._update))
        return fields

    def _update(self) -> None:
        acceptable = all(field.acceptable for field in self._fields)
        self._agree_button.state(["!disabled" if acceptable else "disabled"])

    def _confirm(self) -> None:
        self._agree([field.take() for field in self._secrets])


class NumberPage:
    """The three digits that tie this window to the page that began the order."""

    def __init__(self, shell: Shell, message: messages.Number, cancel: Action) -> None:
        number = message["number"]
        shell.clear(f"{number} - type this number in the page - Inlay")
        column = Column(shell, shell.body)
        column.heading(f"Type {number} in the page")
        column.text("Go back to the web page and type this number there:")
        panel = column.panel(above=16)
        big = tk.Label(
            panel.parent,
            text=" ".join(number),
            font="SunValleyDisplayFont",
            background=panel.parent["background"],
            foreground=shell.theme.palette.text,
        )
        panel.add(big, above=18, below=18)
        column.text(
            "This shows the portal that you sit both at the page and at this computer. "
            "Nothing is issued before the page has the number.",
            above=16,
        )
        column.text(
            "Did you not start this yourself? Then choose Cancel, and tell nobody the number.",
            colour=shell.theme.palette.quiet,
            above=10,
            below=18,
        )
        (button,) = shell.buttons(escape=("Cancel", cancel))
        shell.first = button


class ProgressPage:
    """What is being done: steps with ticks, and a bar."""

    def __init__(self, shell: Shell, heading: str, cancel: Action) -> None:
        self._shell = shell
        self._steps: dict[str, SymbolLine] = {}
        self._done = 0
        shell.clear(f"{heading} - Inlay")
        self._column = Column(shell, shell.body)
        self._column.heading(heading)
        self._bar = ttk.Progressbar(self._column.parent, mode="determinate", maximum=1.0)
        self._column.add(self._bar, above=8, below=2)
        self._count = self._column.text(
            "", colour=shell.theme.palette.quiet, font="SunValleyCaptionFont", below=10
        )
        steps = tk.Frame(self._column.parent, background=shell.theme.palette.ground)
        self._column.add(steps)
        self._list = Column(shell, steps, margin=0)
        self._late = self._column.text("", colour=shell.theme.palette.quiet, above=10, below=14)
        (self._cancel,) = shell.buttons(escape=("Cancel", cancel))
        shell.first = self._cancel

    def show(self, message: messages.Progress) -> None:
        """Show a step as under way, last of all, and those before it as done.

        A step that comes again, as the card's does whenever it was pulled out, undoes nothing of what was done since:
        the count never goes back.
        """
        if message["step_id"] in self._steps and message["step_id"] != next(reversed(self._steps)):
            self._steps.pop(message["step_id"]).remove()
        for step_id, line in self._steps.items():
            if step_id != message["step_id"]:
                line.set("tick")
        self._done = max(self._done, message["done"])
        finished = self._done >= message["total"]
        symbol = "tick" if finished else "dot"
        if message["step_id"] in self._steps:
            self._steps[message["step_id"]].set(symbol, message["text"])
        else:
            self._steps[message["step_id"]] = SymbolLine(
                self._list, symbol, message["text"], above=3, below=3
            )
        self._steps[message["step_id"]].keep_in_view()
        self._bar["value"] = self._done / message["total"]
        self._count.configure(text=f"{self._done} of {message['total']} steps done")
        self._cancel.state(["!disabled" if message["can_cancel"] else "disabled"])
        late = (
            ""
            if message["can_cancel"]
            else "This can't be cancelled any more. It ends by itself in a moment."
        )
        self._late.configure(text=late)


class DetailsPage:
    """The finished card."""

    def __init__(self, shell: Shell, message: messages.Details, puk: bytearray | None, close: Action) -> None:
        # who encodes a card in a reader may do so for somebody else
        ready = "The card is ready" if message["storage_level"] == "card" else "Your card is ready"
        shell.clear(f"{ready} - Inlay")
        column = Column(shell, shell.body)
        column.heading(ready, symbol="large-tick")
        if puk is not None:
            self._puk(column, puk)  # first of all: it is never shown again
        card = column.panel(above=12 if puk is not None else 4)
        card.field("Label", message["label"], above=10)
        card.field("Serial", message["serial"])
        card.field("Keys in", LEVELS.get(message["storage_level"], message["storage_level"]), below=10)
        column.section("Certificates" if len(message["certificates"]) != 1 else "Certificate")
        for certificate in message["certificates"]:
            certificate_panel(shell, column, certificate)
        for note in message["notes"]:
            SymbolLine(column, "bullet", note)
        column.text(
            "You can close this window and go back to the page.",
            colour=shell.theme.palette.quiet,
            above=8,
            below=16,
        )
        (button,) = shell.buttons(escape=("Close", close))
        button.configure(style="Accent.TButton")
        shell.first = button

    def _puk(self, column: Column, puk: bytearray) -> None:
        column.section("Unblocking code (PUK)")
        panel = column.panel(above=2)
        panel.text(puk.decode("ascii", "replace"), font="SunValleyTitleFont", above=8)
        note = "Shown this once. Write it down: with it you can set a new PIN when the card is blocked."
        panel.text(note, below=8)


class ErrorPage:
    """What happened, why, and what to do next."""

    def __init__(self, shell: Shell, message: messages.Failure, close: Action) -> None:
        shell.clear(f"{message['happened']} - Inlay")
        column = Column(shell, shell.body)
        column.heading(message["happened"], symbol="large-warning")
        if message["why"]:
            column.section("Why")
            column.text(message["why"])
        if message["next_step"]:
            column.section("What to do next")
            column.text(message["next_step"])
        quiet = shell.theme.palette.quiet
        column.text(
            f"For support: {message['code']}", font="SunValleyCaptionFont", colour=quiet, above=18, below=16
        )
        (button,) = shell.buttons(escape=("Close", close))
        button.configure(style="Accent.TButton")
        shell.first = button


class CodePage:
    """Where the code of a web page is typed by hand."""

    def __init__(
        self, shell: Shell, message: messages.EnterCode, enter: Callable[[str, str], None], cancel: Action
    ) -> None:
        self._enter = enter
        shell.clear("Enter a code - Inlay")
        column = Column(shell, shell.body)
        column.heading("Enter a code")
        column.text("Type the code that the web page shows: ten letters and digits.")
        self._portal = tk.StringVar(shell.root, message["portals"][0])
        if len(message["portals"]) > 1:
            column.text("Portal", colour=shell.theme.palette.quiet, above=12, below=2)
            column.add(
                ttk.Combobox(
                    column.parent, textvariable=self._portal, values=message["portals"], state="readonly"
                )
            )
        else:
            panel = column.panel(above=12)
            panel.field("Portal", message["portals"][0], above=8, below=8)
        column.text("Code", colour=shell.theme.palette.quiet, above=12, below=2)
        self._code = tk.StringVar(shell.root)
        entry = ttk.Entry(column.parent, textvariable=self._code, font="SunValleyTitleFont")
        column.add(entry, below=20)
        _, self._button = shell.buttons(escape=("Cancel", cancel), default=("Continue", self._go))
        self._button.state(["disabled"])
        self._code.trace_add("write", lambda *_: self._judge())
        shell.first = entry

    def _judge(self) -> None:
        from protocol.link import LinkError, normalise_typed_code

        try:
            normalise_typed_code(self._code.get())
        except LinkError:
            self._button.state(["disabled"])
        else:
            self._button.state(["!disabled"])

    def _go(self) -> None:
        self._enter(self._portal.get(), self._code.get())
