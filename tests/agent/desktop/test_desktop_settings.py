"""What the desktop's settings service says: any program of the session may answer in its name."""

from __future__ import annotations

import pytest

from agent.desktop.window_theme import MAXIMUM_SCALE, MINIMUM_SCALE, _text_scale


@pytest.mark.parametrize(
    ("said", "scale"),
    [
        ("", 1.0),
        ("<1.2.3>", 1.0),
        ("<.>", 1.0),
        ("<1..>", 1.0),
        ("<nan>", 1.0),
        ("<" + "9" * 5000 + ">", 1.0),
        ("<999.0>", MAXIMUM_SCALE),
        ("<0.0>", MINIMUM_SCALE),
        ("<1.25>", 1.25),
        ("<<1.25>>", 1.25),
        ("<2>", 2.0),
    ],
)
def test_whatever_the_text_scale_is_said_to_be_the_window_opens(said: str, scale: float) -> None:
    settings = f"({{'org.gnome.desktop.interface': {{'text-scaling-factor': {said}}}}},)"
    assert _text_scale(settings) == scale
