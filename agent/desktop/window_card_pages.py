"""The pages about a card of the person's: choosing one, looking at it, and that something is done."""

from __future__ import annotations

import tkinter as tk
from collections.abc import Callable
from functools import partial
from tkinter import ttk

from agent.desktop import dialog_messages as messages
from agent.desktop.window_parts import Action, Column, Shell, SymbolLine

FIELD_WIDTH = 12
"""Characters; the longest name of a field."""


class ChoosePage:
    """Several cards, one of which is meant."""

    def __init__(
        self, shell: Shell, message: messages.Choose, choose: Callable[[str], None], cancel: Action
    ) -> None:
        shell.clear(f"{message['title']} - Inlay")
        column = Column(shell, shell.body)
        column.heading(message["title"])
        column.text("Which card?", colour=shell.theme.palette.quiet, below=6)
        chosen = tk.StringVar(shell.root, message["cards"][0]["card"])
        buttons = [_choice(shell, column, card, chosen) for card in message["cards"]]
        for key, step in (("<Down>", 1), ("<Up>", -1)):
            for place, button in enumerate(buttons):
                target = buttons[(place + step) % len(buttons)]
                button.bind(key, partial(_choose_next, target))
        column.text("", below=10)
        shell.buttons(escape=("Cancel", cancel), default=("Continue", lambda: choose(chosen.get())))
        shell.first = buttons[0]


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
) -> ttk.Radiobutton:
    """One card to choose: its button, and label and detail beside it, which choose it, too."""
    ground = column.parent["background"]
    frame = tk.Frame(column.parent, background=ground)
    frame.columnconfigure(1, weight=1)
    button = ttk.Radiobutton(frame, variable=chosen, value=card["card"])
    button.grid(row=0, column=0, sticky="n", padx=(0, shell.theme.px(4)))
    texts = tk.Frame(frame, background=ground)
    texts.grid(row=0, column=1, sticky="ew")
    beside = Column(shell, texts, margin=0)
    for label in (
        beside.text(card["label"], font="SunValleyBodyStrongFont", above=4),
        beside.text(card["detail"], colour=shell.theme.palette.quiet),
    ):
        label.bind("<Button-1>", partial(_choose_next, button))
    column.add(frame, above=6, below=6)
    return button


def _choose_next(button: ttk.Radiobutton, _event: tk.Event[tk.Misc]) -> str:
    button.focus_set()
    button.invoke()
    return "break"
