"""What the options of Inlay's windows are is said by Inlay alone.

Tk fills in every option that a program leaves open from its option database, and that is read from the display's
``RESOURCE_MANAGER`` property, or ``~/.Xdefaults`` (option(n), Tk_GetOption(3)). Whoever may talk to the display can
write the property, and some options are commands that Tk runs, so that anybody's command would run beside the PIN.
The database can't be emptied: it is read again when it is next needed. What stands in it at the highest priority wins.
A value that Tk can't use would keep the window from opening, and ``use`` would put it into another program's; so
something harmless stands there for every option before Tk makes the window, and Tk's own default after that.
"""

from __future__ import annotations

import tkinter as tk

_WIDGETS = (
    *("canvas", "label", "listbox", "ttk::button", "ttk::checkbutton", "ttk::combobox", "ttk::entry"),
    *("ttk::frame", "ttk::progressbar", "ttk::radiobutton", "ttk::scrollbar", "toplevel", "frame"),
)
"""All that the windows are made of, a combination box's list included. The last one's defaults count for classes that
have none of their own: ``frame``, whose own class could else be another than the one that is looked after here."""

_HARMLESS = {
    "": (
        *("bitmap", "colormap", "command", "cursor", "image", "invalidCommand", "listVariable", "menu"),
        *(
            "padding",
            "postCommand",
            "screen",
            "scrollRegion",
            "show",
            "style",
            "takeFocus",
            "text",
            "textColor",
        ),
        *("textVariable", "tkTheme", "use", "validateCommand", "values", "variable", "visual", "windowColor"),
        *("xScrollCommand", "yScrollCommand"),
    ),
    "0": (
        *(
            "borderWidth",
            "closeEnough",
            "confine",
            "container",
            "exportSelection",
            "height",
            "highlightThickness",
        ),
        *("insertBorderWidth", "insertOffTime", "insertOnTime", "insertWidth", "offValue", "onValue", "padX"),
        *(
            "padY",
            "phase",
            "selectBorderWidth",
            "setGrid",
            "underline",
            "Value",
            "value",
            "width",
            "wrapLength",
        ),
        *("xScrollIncrement", "yScrollIncrement"),
    ),
    "100": ("length", "maximum"),
    "black": (
        *("activeBackground", "activeForeground", "background", "disabledForeground", "foreground"),
        *(
            "highlightBackground",
            "highlightColor",
            "insertBackground",
            "selectBackground",
            "selectForeground",
        ),
    ),
    "TkDefaultFont": ("font",),
    "none": ("activeStyle", "compound", "validate"),
    "normal": ("default", "state"),
    "center": ("anchor", "justify"),
    "flat": ("relief",),
    "browse": ("selectMode",),
    "determinate": ("mode",),
    "horizontal": ("orient",),
    "0,0": ("offset",),
}
"""A value that every widget takes, and the names in the database that it is for."""

_HIGHEST = 100
_OWN_DEFAULTS = {("ttk::entry", "cursor"): "xterm"}
"""Where a widget doesn't have what its option's default says."""

_FIXED = frozenset({"class", "colormap", "container", "screen", "use", "visual"})
"""Options of a window that are said once for all."""

_FACTS_OF_AN_OPTION = 5
"""Name, name in the database, class in the database, default and value; synonyms have less."""


def open_window(class_name: str) -> tk.Tk:
    """Make a program's window, with Tk's default for every option that is left open, whatever the display says.

    Args:
        class_name: the window's class.

    Raises:
        tkinter.TclError: the display can't be opened.
    """
    root = tk.Tk(className=class_name, useTk=False)
    harmless = "; ".join(
        f"option add *{name} {{{value}}} {_HIGHEST}" for value, names in _HARMLESS.items() for name in names
    )
    # Tk sets this variable when it has its commands and the display, and has read no option of the window yet
    root.tk.call("trace", "add", "variable", "tk_version", "write", f"apply {{args {{{harmless}}}}}")
    root.loadtk()
    _leave_open_to_nobody(root)
    return root


def _leave_open_to_nobody(root: tk.Tk) -> None:
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
