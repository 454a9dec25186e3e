"""What the pages are written with: paragraphs, fields, panels and lines with a symbol, from top to bottom."""

from __future__ import annotations

import tkinter as tk
from typing import Any

from agent.desktop.window_parts import Shell, wrapping


class Column:
    """Writes a page from top to bottom into a frame."""

    def __init__(self, shell: Shell, parent: tk.Frame, *, margin: int = 20) -> None:
        self.shell = shell
        self.parent = parent
        self._row = 0
        self._margin = shell.theme.px(margin)
        parent.columnconfigure(0, weight=1)

    def add(self, widget: tk.Widget, *, above: int = 0, below: int = 0, sticky: str = "ew") -> None:
        """Put a widget below the last one; distances in pixels at scale 1."""
        theme = self.shell.theme
        pady = (theme.px(above) if above else 0, theme.px(below) if below else 0)
        widget.grid(row=self._row, column=0, sticky=sticky, padx=self._margin, pady=pady)
        self._row += 1

    def text(
        self,
        text: str,
        *,
        font: str = "SunValleyBodyFont",
        colour: str | None = None,
        above: int = 0,
        below: int = 0,
    ) -> tk.Label:
        """A paragraph."""
        label = wrapping(
            tk.Label(
                self.parent,
                text=text,
                font=font,
                anchor="w",
                background=self.parent["background"],
                foreground=colour or self.shell.theme.palette.text,
            )
        )
        self.add(label, above=above, below=below)
        return label

    def heading(self, text: str, *, symbol: str | None = None) -> None:
        """The page's heading, with a symbol before it."""
        if symbol is None:
            self.text(text, font="SunValleyTitleFont", above=20, below=4)
            return
        line = SymbolLine(self, symbol, text, font="SunValleyTitleFont", above=20, below=6, gap=14)
        line.text.configure(anchor="w")

    def section(self, text: str) -> None:
        """A small heading inside a page."""
        self.text(text, font="SunValleyBodyStrongFont", above=14, below=4)

    def panel(self, *, above: int = 8, below: int = 0) -> Column:
        """A framed area; returns the column inside it."""
        palette = self.shell.theme.palette
        frame = tk.Frame(
            self.parent, background=palette.panel, highlightthickness=1, highlightbackground=palette.edge
        )
        self.add(frame, above=above, below=below)
        return Column(self.shell, frame, margin=14)

    def field(self, name: str, value: str, *, above: int = 2, below: int = 2, width: int = 7) -> None:
        """A name, in a column of so many characters, and its value."""
        palette = self.shell.theme.palette
        frame = tk.Frame(self.parent, background=self.parent["background"])
        frame.columnconfigure(1, weight=1)
        colours: dict[str, Any] = {"background": self.parent["background"]}
        caption = tk.Label(
            frame,
            text=name,
            width=width,
            anchor="nw",
            foreground=palette.quiet,
            font="SunValleyBodyFont",
            **colours,
        )
        caption.grid(row=0, column=0, sticky="nw")
        content = tk.Label(
            frame, text=value, anchor="w", foreground=palette.text, font="SunValleyBodyFont", **colours
        )
        wrapping(content).grid(row=0, column=1, sticky="ew")
        self.add(frame, above=above, below=below)


class SymbolLine:
    """A line of text with a symbol before it; both can change."""

    def __init__(
        self,
        column: Column,
        symbol: str,
        text: str,
        *,
        font: str = "SunValleyBodyFont",
        above: int = 2,
        below: int = 2,
        gap: int = 10,
    ) -> None:
        self._shell = column.shell
        theme = self._shell.theme
        ground = column.parent["background"]
        self._frame = frame = tk.Frame(column.parent, background=ground)
        frame.columnconfigure(1, weight=1)
        self._symbol = tk.Label(frame, image=self._shell.symbol(symbol), background=ground)
        self._symbol.grid(row=0, column=0, sticky="n", padx=(0, theme.px(gap)))
        self.text = wrapping(
            tk.Label(
                frame, text=text, font=font, anchor="w", background=ground, foreground=theme.palette.text
            )
        )
        self.text.grid(row=0, column=1, sticky="ew")
        column.add(frame, above=above, below=below)

    def keep_in_view(self) -> None:
        """Scroll to it on a page that is higher than the window."""
        self._shell.keep_in_view(self._frame)

    def remove(self) -> None:
        """Take it off the page."""
        self._frame.destroy()

    def set(self, symbol: str, text: str | None = None, colour: str | None = None) -> None:
        """Change the symbol, and text and colour where given."""
        self._symbol.configure(image=self._shell.symbol(symbol))
        self.text.configure(foreground=colour or self._shell.theme.palette.text)
        if text is not None:
            self.text.configure(text=text)
