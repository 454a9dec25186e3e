"""What the options of Inlay's windows are is said by Inlay alone.

Tk fills in every option that a program leaves open from its option database, and that is read from the display's
``RESOURCE_MANAGER`` property, or ``~/.Xdefaults`` (option(n), Tk_GetOption(3)). Whoever may talk to the display can
write the property, and some options are commands that Tk runs, so that anybody's command would run beside the PIN.
The database can't be emptied: it is read again when it is next needed. What stands in it at the highest priority wins.
"""

from __future__ import annotations

import tkinter as tk

_WIDGETS = (
    *("canvas", "label", "listbox", "ttk::button", "ttk::checkbutton", "ttk::combobox", "ttk::entry"),
    *("ttk::frame", "ttk::progressbar", "ttk::radiobutton", "ttk::scrollbar", "toplevel", "frame"),
)
"""All that the windows are made of, a combination box's list included. The last one's defaults count for classes that
have none of their own: ``frame``, whose own class could else be another than the one that is looked after here."""

_HIGHEST = 100
_OWN_DEFAULTS = {("ttk::entry", "cursor"): "xterm"}
"""Where a widget doesn't have what its option's default says."""

_FIXED = frozenset({"class", "colormap", "container", "screen", "use", "visual"})
"""Options of a window that are said once for all."""

_FACTS_OF_AN_OPTION = 5
"""Name, name in the database, class in the database, default and value; synonyms have less."""


def leave_open_to_nobody(root: tk.Tk) -> None:
    """Have every option that Inlay leaves open be Tk's default, whatever the display says.

    Args:
        root: the window, as the first thing after it was made.

    Raises:
        tkinter.TclError: the display names a value that Tk can't use at all.
    """
    for name, default in _defaults(root, "."):
        if name not in _FIXED:
            root.tk.call(".", "configure", f"-{name.lower()}", default)
    found = []
    for widget in _WIDGETS:
        root.tk.call(widget, ".options")
        kind = str(root.tk.call("winfo", "class", ".options"))
        for name, default in _defaults(root, ".options"):
            found.append((kind, name, _OWN_DEFAULTS.get((widget, name), default)))
        root.tk.call("destroy", ".options")
    for pattern in ("*{1}", "*{0}.{1}"):  # the last one that fits wins
        for kind, name, default in found:
            root.tk.call("option", "add", pattern.format(kind, name), default, _HIGHEST)


def _defaults(root: tk.Tk, window: str) -> list[tuple[str, str]]:
    """Name in the database and default of each option."""
    options = (root.tk.splitlist(line) for line in root.tk.splitlist(root.tk.call(window, "configure")))
    full = (option for option in options if len(option) == _FACTS_OF_AN_OPTION)
    return [(str(name), str(default)) for _, name, _, default, _ in full if name]
