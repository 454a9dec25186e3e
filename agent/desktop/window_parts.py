"""The frame around every page: header band, scrolling body, footer with buttons.

The layout holds from 360 pixels up, and everything can be done by keyboard.
"""

from __future__ import annotations

import re
import tkinter as tk
from collections import deque
from collections.abc import Callable
from functools import partial
from tkinter import ttk
from typing import Any

from agent.desktop import window_shapes
from agent.desktop.window_theme import Theme

WIDTH, MINIMUM_WIDTH, MINIMUM_HEIGHT, WIDEST_TEXT = 470, 360, 320, 560
"""Pixels at scale 1."""

SCREEN_MARGIN = 96

Action = Callable[[], None]


class Shell:
    """The window itself, with a place for one page at a time.

    Attributes:
        first: what has the focus when a page appears; each page sets its own.
    """

    def __init__(self, root: tk.Tk, theme: Theme) -> None:
        self.root = root
        self.theme = theme
        self._pictures: dict[str, tk.PhotoImage] = {}
        self.first: tk.Misc = root
        self._default: Action | None = None
        self._escape: Action | None = None
        self._sized_by_person = False
        self._last_size = (0, 0)
        self._asked_sizes: deque[tuple[int, int]] = deque(maxlen=8)
        self._in_view: tk.Misc | None = None
        self._viewed: Action | None = None
        self._bringing = False
        root.configure(background=theme.palette.ground)
        root.minsize(MINIMUM_WIDTH, MINIMUM_HEIGHT)
        root.rowconfigure(1, weight=1)
        root.columnconfigure(0, weight=1)
        self._build_band()
        self._build_body()
        self.footer = tk.Frame(root, background=theme.palette.panel)
        self.footer.grid(row=2, column=0, sticky="ew")
        root.bind("<Escape>", lambda _event: self._run(self._escape))
        root.bind("<Return>", lambda _event: self._run(self._default))
        root.bind("<KP_Enter>", lambda _event: self._run(self._default))
        for key in ("<Return>", "<KP_Enter>"):
            root.bind_class("TButton", key, _press)
        root.iconphoto(True, self.picture("card-icon", lambda: window_shapes.card(64)))

    def _build_band(self) -> None:
        theme = self.theme
        colours: dict[str, Any] = {"background": theme.palette.band}
        band = tk.Frame(self.root, **colours)
        band.grid(row=0, column=0, sticky="ew")
        band.columnconfigure(1, weight=1)
        size = theme.px(44)
        sign = tk.Label(band, image=self.picture("card", lambda: window_shapes.card(size)), **colours)
        sign.grid(row=0, column=0, rowspan=2, padx=(theme.px(20), theme.px(14)), pady=theme.px(14))
        self._portal = wrapping(
            tk.Label(
                band,
                foreground=theme.palette.band_text,
                font="SunValleyBodyLargeFont",
                anchor="sw",
                **colours,
            )
        )
        self._portal.grid(row=0, column=1, sticky="sew", padx=(0, theme.px(20)), pady=(theme.px(12), 0))
        self._origin = wrapping(
            tk.Label(
                band, foreground=theme.palette.band_quiet, font="SunValleyBodyFont", anchor="nw", **colours
            )
        )
        self._origin.grid(row=1, column=1, sticky="new", padx=(0, theme.px(20)), pady=(0, theme.px(12)))
        self.name_portal("Inlay", "Your smart card agent")

    def _build_body(self) -> None:
        palette = self.theme.palette
        holder = tk.Frame(self.root, background=palette.ground)
        holder.grid(row=1, column=0, sticky="nsew")
        holder.rowconfigure(0, weight=1)
        holder.columnconfigure(0, weight=1)
        self._canvas = tk.Canvas(holder, background=palette.ground, highlightthickness=0, borderwidth=0)
        self._canvas.grid(row=0, column=0, sticky="nsew")
        self._bar = ttk.Scrollbar(holder, orient="vertical", command=self._canvas.yview)
        self._canvas.configure(yscrollcommand=self._scrolled, yscrollincrement=self.theme.px(24))
        self.body = tk.Frame(self._canvas, background=palette.ground)
        self._item = self._canvas.create_window(0, 0, window=self.body, anchor="n")
        self._canvas.bind("<Configure>", lambda _event: self._fit())
        self.body.bind("<Configure>", lambda _event: self._fit())
        for keys, amount in (("<Next>", 8), ("<Prior>", -8), ("<Button-5>", 3), ("<Button-4>", -3)):
            self.root.bind(keys, partial(self._scroll, amount))
        self.root.bind("<Configure>", self._resized)
        self.root.bind("<FocusIn>", lambda event: None if event.widget is self.first else self._reveal(event))
        self.root.bind("<Key>", self._reveal)

    def _fit(self) -> None:
        """Keep the text at a readable width in the middle, and the scroll bar for when it is needed."""
        wide, high = self._canvas.winfo_width(), self._canvas.winfo_height()
        self._canvas.coords(self._item, wide // 2, 0)
        self._canvas.itemconfigure(self._item, width=min(wide, self.theme.px(WIDEST_TEXT)))
        needed = self.body.winfo_reqheight()
        self._canvas.configure(scrollregion=(0, 0, wide, max(needed, high)))
        if not needed > high > 1:
            self._bar.grid_remove()
        elif not self._grow():
            self._bar.grid(row=0, column=1, sticky="ns")
            self._bring_into_view()
        self._run(self._viewed)

    def _scrolled(self, first: float, last: float) -> None:
        self._bar.set(first, last)
        self._run(self._viewed)

    def follow_view(self, action: Action) -> None:
        """Run this whenever another part of the page may be in view; until the page changes."""
        self._viewed = action

    def end_in_view(self) -> bool:
        """Whether the page's end is on the screen, because all of it is or because it was scrolled to."""
        lowest = int(self._canvas.canvasy(0)) + self._canvas.winfo_height()
        return bool(self.root.winfo_viewable()) and self.body.winfo_reqheight() <= lowest

    def explain(self, text: str) -> None:
        """Say above the buttons why one of them waits; nothing without a text."""
        said = self.footer.grid_slaves(row=0)
        if bool(text) is bool(said):
            return  # to write it anew would change the view, and that asks again
        for widget in said:
            widget.destroy()
        if text:
            palette, edge = self.theme.palette, self.theme.px(20)
            label = tk.Label(
                self.footer,
                text=text,
                font="SunValleyBodyFont",
                anchor="e",
                background=palette.panel,
                foreground=palette.text,
            )
            wrapping(label).grid(
                row=0, column=0, columnspan=3, sticky="ew", padx=edge, pady=(self.theme.px(10), 0)
            )

    def _grow(self) -> bool:
        """Make the window as high as its page needs; False when the screen or the person says no."""
        wide, high = self._last_size
        wanted = self._wanted_height()
        if self._sized_by_person or wanted <= high:
            return False
        self._resize(wide, wanted)
        return True

    def _wanted_height(self) -> int:
        rows = self.root.grid_slaves()
        others = sum(widget.winfo_reqheight() for widget in rows if int(widget.grid_info()["row"]) != 1)
        high = max(self.theme.px(MINIMUM_HEIGHT), others + self.body.winfo_reqheight())
        return min(high, self.root.winfo_screenheight() - SCREEN_MARGIN)

    def _resize(self, wide: int, high: int, place: str = "") -> None:
        """Change the size, and the place where one is given or the window would leave the screen."""
        if not place and self.root.winfo_viewable():
            place = self._moved_up(high)
        self._last_size = (wide, high)
        self._asked_sizes.append(self._last_size)
        self.root.geometry(f"{wide}x{high}{place}")

    def _moved_up(self, high: int) -> str:
        """The place that a window so high needs to end above the screen's lower edge; empty where it does already."""
        root = self.root
        frame = re.fullmatch(r"\d+x\d+\+(-?\d+)\+(-?\d+)", root.geometry())
        lowest = root.winfo_screenheight() - SCREEN_MARGIN // 2 - high
        if frame is None or int(frame[2]) <= max(lowest, 0):
            return ""
        return f"+{frame[1]}+{max(lowest, 0)}"

    def _scroll(self, units: int, _event: tk.Event[tk.Misc]) -> None:
        high = self._canvas.winfo_height()
        if self.body.winfo_reqheight() > high:
            most = max(1, high // self.theme.px(24) - 1)  # no line is passed over
            self._canvas.yview_scroll(max(-most, min(units, most)), "units")

    def _reveal(self, event: tk.Event[tk.Misc]) -> None:
        """Scroll to what got the focus, with what follows it (the rules below a PIN field).

        A page that has just appeared stays at its top until a key is pressed: who asks, and for which
        account, is seen before the PIN field.
        """
        widget, needed, high = event.widget, self.body.winfo_reqheight(), self._canvas.winfo_height()
        # on its way to what gets it, the focus passes through everything around that
        passing = widget is not self.root.focus_get()
        if passing or not str(widget).startswith(f"{self.body}.") or needed <= high:
            return
        top = widget.winfo_rooty() - self.body.winfo_rooty()
        shown = widget.winfo_rooty() - self._canvas.winfo_rooty()
        if shown < 0 or shown + widget.winfo_height() > high // 2:
            self._canvas.yview_moveto(max(0, top - high // 4) / needed)

    def keep_in_view(self, widget: tk.Misc) -> None:
        """The part of the page that is to be seen, whatever the window's height; until the page changes."""
        self._in_view = widget
        self._bring_into_view()

    def _bring_into_view(self) -> None:
        if not self._bringing:
            self._bringing = True
            self.root.after_idle(self._scroll_into_view)

    def _scroll_into_view(self) -> None:
        self.root.update_idletasks()  # places are known only once everything is laid out
        self._bringing = False
        widget = self._in_view
        needed, high = self.body.winfo_reqheight(), self._canvas.winfo_height()
        if widget is None or not widget.winfo_exists() or not needed > high > 1:
            return
        top = widget.winfo_rooty() - self.body.winfo_rooty()
        end, shown = top + widget.winfo_reqheight(), int(self._canvas.canvasy(0))
        if not shown <= top <= end <= shown + high:
            # a line too high for the window is read from its beginning
            self._canvas.yview_moveto(max(0, min(top, end + self.theme.px(24) - high)) / needed)

    def _resized(self, event: tk.Event[tk.Misc]) -> None:
        if event.widget is self.root and self._asked_sizes:
            self._sized_by_person = (event.width, event.height) not in self._asked_sizes

    def _run(self, action: Action | None) -> None:
        if action is not None:
            action()

    def name_portal(self, name: str, origin: str) -> None:
        """Write the header band."""
        self._portal.configure(text=name)
        self._origin.configure(text=origin)

    def clear(self, title: str) -> None:
        """Take the page away and name the window."""
        for widget in (*self.body.winfo_children(), *self.footer.winfo_children()):
            widget.destroy()
        self._default = self._escape = None
        self.first = self.root
        self._in_view = self._viewed = None
        self.root.title(title)
        self._canvas.yview_moveto(0)

    def settle(self) -> None:
        """Give the window the height its page needs, unless the person has chosen a size."""
        if self._sized_by_person:
            return
        root = self.root
        root.update_idletasks()
        wide, high = self._last_size
        if wide:
            self._resize(wide, self._wanted_height())
            return
        wide, high = min(self.theme.px(WIDTH), root.winfo_screenwidth()), self._wanted_height()
        left, top = (root.winfo_screenwidth() - wide) // 2, (root.winfo_screenheight() - high) // 3
        self._resize(wide, high, f"+{left}+{max(top, 0)}")

    def buttons(
        self, *, escape: tuple[str, Action], default: tuple[str, Action] | None = None
    ) -> list[ttk.Button]:
        """The footer's buttons: the one that leaves, and the one that goes on (last, accented)."""
        theme = self.theme
        self._escape = escape[1]
        made = [ttk.Button(self.footer, text=escape[0], command=escape[1])]
        if default is not None:
            made.append(ttk.Button(self.footer, text=default[0], command=default[1], style="Accent.TButton"))
            self._default = made[-1].invoke
        else:
            self._default = None
        self.footer.columnconfigure(0, weight=1)
        for column, button in enumerate(made, 1):
            button.configure(width=max(10, len(button["text"]) + 2))
            after = theme.px(20) if column == len(made) else 0
            button.grid(
                row=1, column=column, padx=(theme.px(10), after), pady=theme.px(14), ipady=theme.px(2)
            )
        return made

    def picture(self, name: str, draw: Callable[[], bytes]) -> tk.PhotoImage:
        """A picture, drawn once."""
        if name not in self._pictures:
            self._pictures[name] = tk.PhotoImage(master=self.root, data=draw(), format="png")
        return self._pictures[name]

    def symbol(self, kind: str) -> tk.PhotoImage:
        """One of the symbols before a line: tick, cross, circle, dot, bullet, warning, large-tick."""
        palette, size = self.theme.palette, self.theme.px(18)
        large = self.theme.px(36)
        drawings: dict[str, Callable[[], bytes]] = {
            "tick": lambda: window_shapes.tick(size, palette.good),
            "cross": lambda: window_shapes.cross(size, palette.bad),
            "circle": lambda: window_shapes.circle(size, palette.quiet),
            "dot": lambda: window_shapes.dot(size, palette.active),
            "bullet": lambda: window_shapes.bullet(size, palette.quiet),
            "large-tick": lambda: window_shapes.tick(large, palette.good),
            "large-warning": lambda: window_shapes.warning(large, palette.bad),
        }
        return self.picture(kind, drawings[kind])


def wrapping(label: tk.Label) -> tk.Label:
    """Make a label break its lines at whatever width it gets."""
    label.configure(justify="left")
    label.bind("<Configure>", lambda event: label.configure(wraplength=max(event.width - 2, 1)))
    return label


def _press(event: tk.Event[tk.Misc]) -> str:
    """Return presses the button that has the focus, and nothing else."""
    if isinstance(event.widget, ttk.Button):
        event.widget.invoke()
    return "break"
