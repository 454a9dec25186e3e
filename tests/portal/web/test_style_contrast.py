"""The colours of the style sheet, light and dark, are far enough apart to be read (WCAG 2.2, 1.4.3 and 1.4.11)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from portal import web

_STYLE = (Path(web.__file__).resolve().parent / "static" / "style.css").read_text(encoding="utf-8")
_TEXT = [
    ("ink", "paper"),
    ("ink", "surface"),
    ("ink", "sunken"),
    ("ink", "petrol-tint"),
    ("ink", "good-tint"),
    ("ink", "warn-tint"),
    ("ink", "bad-tint"),
    ("ink-soft", "paper"),
    ("ink-soft", "surface"),
    ("ink-soft", "sunken"),
    ("petrol", "paper"),
    ("petrol", "surface"),
    ("petrol-strong", "petrol-tint"),
    ("on-petrol", "petrol"),
    ("on-petrol", "petrol-strong"),
    ("good", "good-tint"),
    ("warn", "warn-tint"),
    ("warn", "surface"),
    ("warn", "paper"),
    ("bad", "bad-tint"),
    ("bad", "surface"),
    ("on-face", "face-1"),
    ("on-face", "face-2"),
]
_SHAPES = [("line-strong", "surface"), ("line-strong", "paper"), ("brass", "paper"), ("contacts", "face-2")]


def _palette(scheme: str) -> dict[str, str]:
    blocks = re.findall(r":root \{(.*?)\}", _STYLE, re.DOTALL)
    colours: dict[str, str] = {}
    for block in blocks[: 2 if scheme == "dark" else 1]:
        colours |= dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6});", block))
    return colours


def _luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("pair", _TEXT, ids=" on ".join)
def test_text_can_be_read(scheme: str, pair: tuple[str, str]) -> None:
    colours = _palette(scheme)
    assert _contrast(colours[pair[0]], colours[pair[1]]) >= 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("pair", _SHAPES, ids=" on ".join)
def test_shapes_can_be_told(scheme: str, pair: tuple[str, str]) -> None:
    colours = _palette(scheme)
    assert _contrast(colours[pair[0]], colours[pair[1]]) >= 3


def test_nothing_comes_from_elsewhere() -> None:
    assert "url(" not in _STYLE
    assert "@import" not in _STYLE
