"""The pages about a card of the person's: choosing one, looking at it, and that something is done."""

from __future__ import annotations

import tkinter as tk
from collections.abc import Callable
from functools import partial
from tkinter import ttk

from agent.desktop import dialog_messages as messages
from agent.desktop.window_column import Column, SymbolLine
from agent.desktop.window_parts import Action, Shell

FIELD_WIDTH = 12
"""Characters; the longest name of a field."""


class ChoosePage:
    """Several cards, one of which is meant; a list with a note follows what is there, and can be shown anew."""

    def __init__(
        self, shell: Shell, message: messages.Choose, choose: Callable[[str], None], cancel: Action
    ) -> None:
        shell.clear(f"{message['title']} - Inlay")
        self._shell = shell
        column = Column(shell, shell.body)
        column.heading(message["title"])
        self._note = column.text("", colour=shell.theme.palette.quiet, below=6)
        frame = tk.Frame(column.parent, background=column.parent["background"])
        self._list = Column(shell, frame, margin=0)
        column.add(frame)
        column.text("", below=10)
        self._chosen = tk.StringVar(shell.root)
        self._buttons: dict[str, ttk.Radiobutton] = {}
        self._leave, self._go_on = shell.buttons(
            escape=("Cancel", cancel), default=("Continue", lambda: choose(self._chosen.get()))
        )
        self._chosen.trace_add("write", lambda *_: self._allow())
        if message["note"] is None:
            self._chosen.set(
                message["cards"][0]["card"]
            )  # what was put in by nobody just now can be proposed
        self.show(message)

    def show(self, message: messages.Choose) -> None:
        """Show what is there now. What was chosen stays chosen while it is there, and nothing is in its place."""
        focused = self._shell.root.focus_get()
        held = next((card for card, button in self._buttons.items() if button is focused), None)
        inside = held is not None or not self._buttons
        for widget in self._list.parent.winfo_children():
            widget.destroy()
        self._note.configure(text=message["note"] or "Which card?")
        self._buttons = {}
        for card in message["cards"]:
            button = _choice(self._shell, self._list, card, self._chosen)
            if button is not None:
                self._buttons[card["card"]] = button
        for key, step in (("<Down>", 1), ("<Up>", -1)):
            for button in self._buttons.values():
                button.bind(key, partial(self._move, step, button))
        if self._chosen.get() not in self._buttons:
            self._chosen.set("")
        self._allow()
        first = self._buttons.get(held or self._chosen.get()) or next(iter(self._buttons.values()), None)
        self._shell.first = first or self._leave
        if inside or focused is self._go_on:
            self._shell.first.focus_set()

    def _allow(self) -> None:
        self._go_on.state(["!disabled" if self._chosen.get() else "disabled"])

    def _move(self, step: int, here: ttk.Radiobutton, event: tk.Event[tk.Misc]) -> str:
        """To the next card; the first time to the one that has the focus."""
        buttons = list(self._buttons.values())
        target = buttons[(buttons.index(here) + step) % len(buttons)] if self._chosen.get() else here
        return _choose_next(target, event)


class CardPage:
    """A card, and what may be done with it."""

    def __init__(
        self, shell: Shell, message: messages.Card, act: Callable[[str], None], close: Action
    ) -> None:
        palette = shell.theme.palette
        shell.clear(f"{message['title']} - Inlay")
        column = Column(shell, shell.body)
        column.heading(message["title"])
        if message["warning"]:
            panel = column.panel(above=6)
            panel.text(message["warning"], colour=palette.bad_text, above=10, below=10)
        panel = column.panel(above=8)
        last = len(message["fields"]) - 1
        for place, (name, value) in enumerate(message["fields"]):
            above, below = 10 if place == 0 else 2, 10 if place == last else 2
            panel.field(name, value, above=above, below=below, width=FIELD_WIDTH)
        if message["certificates"]:
            column.section("Certificates" if len(message["certificates"]) != 1 else "Certificate")
        for certificate in message["certificates"]:
            certificate_panel(shell, column, certificate)
        first = None
        for name, label in message["actions"]:
            button = ttk.Button(column.parent, text=label, command=partial(act, name))
            column.add(button, above=8 if first is None else 4)
            first = first or button
        column.text("", below=10)
        (leave,) = shell.buttons(escape=("Close", close))
        shell.first = first or leave


class DonePage:
    """It is done."""

    def __init__(self, shell: Shell, message: messages.Done, close: Action) -> None:
        shell.clear(f"{message['title']} - Inlay")
        column = Column(shell, shell.body)
        column.heading(message["title"], symbol="large-tick")
        for line in message["lines"]:
            SymbolLine(column, "bullet", line, above=4, below=4)
        column.text("", below=10)
        (button,) = shell.buttons(escape=("Close", close))
        button.configure(style="Accent.TButton")
        shell.first = button


def certificate_panel(shell: Shell, column: Column, certificate: messages.CertificateFields) -> None:
    """One certificate: what it is for, whose, and until when."""
    panel = column.panel(above=2, below=6)
    panel.text(certificate["purpose"], font="SunValleyBodyStrongFont", above=8)
    panel.text(certificate["subject"])
    validity = f"Valid from {certificate['not_before']} to {certificate['not_after']}"
    panel.text(validity, colour=shell.theme.palette.quiet, below=8)


def _choice(
    shell: Shell, column: Column, card: messages.ChoiceFields, chosen: tk.StringVar
) -> ttk.Radiobutton | None:
    """One card: its button, and label and detail beside it, which choose it, too; no button where it can't be used."""
    ground = column.parent["background"]
    frame = tk.Frame(column.parent, background=ground)
    frame.columnconfigure(1, weight=1)
    quiet = shell.theme.palette.quiet
    button = ttk.Radiobutton(frame, variable=chosen, value=card["card"])
    if card["usable"]:
        button.grid(row=0, column=0, sticky="n", padx=(0, shell.theme.px(4)))
    else:
        frame.columnconfigure(0, minsize=button.winfo_reqwidth() + shell.theme.px(4))
    texts = tk.Frame(frame, background=ground)
    texts.grid(row=0, column=1, sticky="ew")
    beside = Column(shell, texts, margin=0)
    for label in (
        beside.text(
            card["label"],
            font="SunValleyBodyStrongFont",
            colour=None if card["usable"] else quiet,
            above=4,
        ),
        beside.text(card["detail"], colour=quiet),
    ):
        if card["usable"]:
            label.bind("<Button-1>", partial(_choose_next, button))
    column.add(frame, above=6, below=6)
    if card["usable"]:
        return button
    button.destroy()
    return None


def _choose_next(button: ttk.Radiobutton, _event: tk.Event[tk.Misc]) -> str:
    button.focus_set()
    button.invoke()
    return "break"
