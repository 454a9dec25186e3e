"""How the windows look: light or dark, fonts that grow with the desktop's text scale, colours."""

from __future__ import annotations

import os
import re
import subprocess
import tkinter as tk
from dataclasses import dataclass
from tkinter import font

import sv_ttk

SETTINGS_SECONDS = 0.4
"""How long the desktop's settings service may take; the window does not wait longer for a colour."""

MINIMUM_SCALE, MAXIMUM_SCALE = 0.75, 3.0

DENSE = 1.2
"""Screens are taken for dense from here on; below, servers report all kinds of numbers for plain ones."""

_BASE_DPI = 96
_GDBUS = "/usr/bin/gdbus"
_READ_SETTINGS = [
    _GDBUS,
    *("call", "--session", "--dest", "org.freedesktop.portal.Desktop"),
    *("--object-path", "/org/freedesktop/portal/desktop"),
    *("--method", "org.freedesktop.portal.Settings.ReadAll"),
    "['org.freedesktop.appearance', 'org.gnome.desktop.interface']",
]
_FONT_SIZES = {
    "SunValleyCaptionFont": (12, "normal"),
    "SunValleyBodyFont": (14, "normal"),
    "SunValleyBodyStrongFont": (14, "bold"),
    "SunValleyBodyLargeFont": (16, "normal"),
    "SunValleySubtitleFont": (18, "bold"),
    "SunValleyTitleFont": (22, "bold"),
    "SunValleyTitleLargeFont": (40, "bold"),
    "SunValleyDisplayFont": (64, "bold"),
}
"""Named font → size in pixels at scale 1, and weight."""
_FAMILIES = ("Inter", "Adwaita Sans", "Cantarell", "Ubuntu", "Noto Sans", "Open Sans", "DejaVu Sans")


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours beside those of the ttk theme; each pair used for text has a contrast of 4.5 or more."""

    ground: str
    text: str
    quiet: str
    panel: str
    edge: str
    band: str
    band_text: str
    band_quiet: str
    good: str
    bad: str
    bad_text: str
    active: str


LIGHT = Palette(
    ground="#fafafa",
    text="#1b1b1b",
    quiet="#595f66",
    panel="#f0f4f7",
    edge="#d5dde3",
    band="#12395b",
    band_text="#ffffff",
    band_quiet="#c3d6e4",
    good="#187a3d",
    bad="#b3261e",
    bad_text="#b3261e",
    active="#0f6cbd",
)
DARK = Palette(
    ground="#1c1c1c",
    text="#fafafa",
    quiet="#a8b0b8",
    panel="#252a2f",
    edge="#3a4249",
    band="#0d2a44",
    band_text="#ffffff",
    band_quiet="#aac4d6",
    good="#2f9e5b",
    bad="#d5483f",
    bad_text="#ff9a92",
    active="#3c9be6",
)


class DesktopSettings:
    """The desktop's colour scheme and text scale, asked for while Tk starts."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        if os.environ.get("DBUS_SESSION_BUS_ADDRESS") and os.access(_GDBUS, os.X_OK):
            self._process = subprocess.Popen(
                _READ_SETTINGS,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )

    def read(self) -> tuple[bool, float]:
        """Whether dark is preferred, and the text scale; what can't be learnt has its default."""
        answer = ""
        if self._process is not None:
            try:
                answer = self._process.communicate(timeout=SETTINGS_SECONDS)[0].decode("utf-8", "replace")
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.communicate()
        return _prefers_dark(answer), _text_scale(answer)


def _prefers_dark(settings: str) -> bool:
    """org.freedesktop.appearance: color-scheme 1 is dark, 2 is light, 0 is no preference."""
    found = re.search(r"'color-scheme': <+uint32 (\d)", settings)
    if found and found[1] != "0":
        return found[1] == "1"
    return os.environ.get("GTK_THEME", "").lower().endswith((":dark", "-dark"))


def _text_scale(settings: str) -> float:
    found = re.search(r"'text-scaling-factor': <+([0-9]{1,3}(?:\.[0-9]{1,12})?)[>,]", settings)
    return clamp_scale(float(found[1])) if found else 1.0


def clamp_scale(scale: float) -> float:
    """A text scale within sensible bounds."""
    return min(MAXIMUM_SCALE, max(MINIMUM_SCALE, scale))


class Theme:
    """The look of one window: palette, scale, and lengths that grow with it."""

    def __init__(self, root: tk.Tk, *, dark: bool, scale: float) -> None:
        self.palette = DARK if dark else LIGHT
        density = root.winfo_fpixels("1i") / _BASE_DPI
        self.scale = scale * (density if density >= DENSE else 1.0)
        sv_ttk.set_theme("dark" if dark else "light", root)
        families = set(font.families(root))
        family = next((name for name in _FAMILIES if name in families), None)
        for name, (size, weight) in _FONT_SIZES.items():
            named = font.nametofont(name, root)
            named.configure(size=-self.px(size), weight="bold" if weight == "bold" else "normal")
            if family is not None:
                named.configure(family=family)

    def px(self, length: float) -> int:
        """A length in pixels at scale 1, at this window's scale."""
        return max(1, round(length * self.scale))
