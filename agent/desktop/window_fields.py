"""Fields for what is typed secretly, and for the word that agrees; each says whether what stands in it will do."""

from __future__ import annotations

import itertools
import tkinter as tk
from collections.abc import Callable
from tkinter import ttk
from typing import Protocol

from agent.desktop import dialog_messages as messages
from agent.desktop.window_column import Column, SymbolLine
from agent.desktop.window_parts import Shell
from agent.pin_rules import FIRST_PRINTABLE, LAST_PRINTABLE, PinRules, Rule, check_pin

BULLET = "\N{BULLET}"


class Field(Protocol):
    """A part of a page that asks for something."""

    @property
    def entries(self) -> tuple[ttk.Entry, ...]:
        """What is typed into, in order."""

    @property
    def acceptable(self) -> bool:
        """Whether what stands there will do."""


class KnownField:
    """The PIN or PUK that the person has: one field, judged by its form alone."""

    def __init__(
        self, shell: Shell, column: Column, message: messages.KnownFields, changed: Callable[[], None]
    ) -> None:
        self._shortest, self._longest = message["shortest"], message["longest"]
        self._palette = shell.theme.palette
        self._changed = changed
        self._value = tk.StringVar(shell.root)
        column.section(message["caption"])
        entry = secret_entry(column, self._value)
        self.entries = (entry,)
        span = f"{self._shortest} to {self._longest}"
        self._form = SymbolLine(column, "circle", f"{span} characters", above=4, below=2)
        self._value.trace_add("write", lambda *_: self._judge())

    @property
    def acceptable(self) -> bool:
        """Whether it could be right: what can't is never sent to the card, and costs no try."""
        typed = self._value.get().encode("utf-8", "surrogatepass")
        printable = all(FIRST_PRINTABLE <= byte <= LAST_PRINTABLE for byte in typed)
        return printable and self._shortest <= len(typed) <= self._longest

    def take(self) -> bytearray:
        """What was typed, as the receiver's own; the field is emptied."""
        secret = bytearray(self._value.get().encode("utf-8"))
        self._value.set("")
        return secret

    def _judge(self) -> None:
        typed = len(self._value.get().encode("utf-8", "surrogatepass"))
        if self.acceptable:
            self._form.set("tick")
        elif typed < self._shortest:
            self._form.set("circle")
        else:
            self._form.set("cross", colour=self._palette.bad_text)
        self._changed()


class NewPin:
    """Two fields for a new PIN, judged at every key."""

    def __init__(
        self, shell: Shell, column: Column, rules: PinRules, changed: Callable[[], None], heading: str
    ) -> None:
        self._rules = rules
        self._changed = changed
        self._palette = shell.theme.palette
        self._values = (tk.StringVar(shell.root), tk.StringVar(shell.root))
        self._good = False
        column.section(heading)
        self.entries = tuple(
            self._field(column, caption, value)
            for caption, value in zip(("New PIN", "The same PIN again"), self._values, strict=True)
        )
        self._rows = SymbolRows(column)
        for value in self._values:
            value.trace_add("write", lambda *_: self._judge())

    @property
    def acceptable(self) -> bool:
        """Whether both fields hold the same PIN, and it keeps the rules."""
        return self._good

    def show_rules(self) -> None:
        """Write the rules below the fields."""
        for rule in check_pin(self._rules, b""):
            self._rows.add(rule.rule_id, rule.text)
        self._rows.add("same", "Both fields hold the same PIN")

    def _field(self, column: Column, caption: str, value: tk.StringVar) -> ttk.Entry:
        column.text(caption, colour=self._palette.quiet, above=6, below=2)
        return secret_entry(column, value)

    def take(self) -> bytearray:
        """The PIN, as the receiver's own; the fields are emptied."""
        pin = bytearray(self._values[0].get().encode("utf-8"))
        for value in self._values:
            value.set("")
        return pin

    def _judge(self) -> None:
        first, second = (value.get() for value in self._values)
        judged = check_pin(self._rules, first.encode("utf-8", "surrogatepass"))
        for rule in judged:
            self._show_rule(rule, typed=bool(first))
        same = bool(first) and first == second
        line = self._rows.lines["same"]
        if same:
            line.set("tick", "Both fields hold the same PIN")
        elif second and not first.startswith(second):
            line.set("cross", "The two PINs differ", self._palette.bad_text)
        else:
            line.set("circle", "Both fields hold the same PIN")
        self._good = same and all(rule.satisfied for rule in judged)
        self._changed()

    def _show_rule(self, rule: Rule, *, typed: bool) -> None:
        line = self._rows.lines[rule.rule_id]
        if not typed:
            line.set("circle")
        elif rule.satisfied:
            line.set("tick")
        elif rule.more_may_help:
            line.set("circle")
        else:
            line.set("cross", colour=self._palette.bad_text)


class SymbolRows:
    """Lines with symbols, by their names."""

    def __init__(self, column: Column) -> None:
        self._column = column
        self.lines: dict[str, SymbolLine] = {}

    def add(self, name: str, text: str) -> None:
        """Add a line."""
        self.lines[name] = SymbolLine(self._column, "circle", text)


class TypedWord:
    """A word that has to be typed to agree."""

    def __init__(self, shell: Shell, column: Column, word: str, changed: Callable[[], None]) -> None:
        self._word = word
        self._value = tk.StringVar(shell.root)
        column.section(f"Type “{word}” to confirm")
        entry = ttk.Entry(column.parent, textvariable=self._value, font="SunValleyBodyLargeFont")
        column.add(entry)
        self.entries = (entry,)
        self._value.trace_add("write", lambda *_: changed())

    @property
    def acceptable(self) -> bool:
        """Whether it is that word."""
        return self._value.get().strip().lower() == self._word


def secret_entry(column: Column, value: tk.StringVar) -> ttk.Entry:
    """A field that shows bullets, and can't be copied from."""
    entry = ttk.Entry(
        column.parent, textvariable=value, show=BULLET, exportselection=False, font="SunValleyBodyLargeFont"
    )
    for forbidden in ("<<Copy>>", "<<Cut>>"):
        entry.bind(forbidden, lambda _event: "break")
    column.add(entry)
    return entry


def reveal_box(shell: Shell, column: Column, entries: tuple[ttk.Entry, ...], text: str) -> None:
    """A box that shows what was typed secretly while it is ticked."""
    visible = tk.BooleanVar(shell.root, False)

    def reveal() -> None:
        for entry in entries:
            entry.configure(show="" if visible.get() else BULLET)

    box = ttk.Checkbutton(column.parent, text=text, variable=visible, command=reveal)
    column.add(box, above=4, below=6, sticky="w")


def chain(entries: tuple[ttk.Entry, ...]) -> None:
    """Return goes from each field to the next; in the last one it is the page's own."""
    for entry, following in itertools.pairwise(entries):
        for key in ("<Return>", "<KP_Enter>"):
            entry.bind(key, lambda _event, target=following: _focus(target))


def _focus(entry: ttk.Entry) -> str:
    entry.focus_set()
    return "break"
