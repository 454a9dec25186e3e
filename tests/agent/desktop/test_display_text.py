"""Foreign text made safe to show."""

from __future__ import annotations

import pytest

from agent.desktop.display_text import MAX_SHOWN, clean, origin_text


@pytest.mark.parametrize("sign", ["\n", "\r", "\x1b", "\u202e", "\u2066", "\x00", "\u200b"])
def test_what_would_move_or_turn_text_is_shown_as_a_question_mark(sign: str) -> None:
    assert clean(f"maria{sign}lopez") == "maria?lopez"


@pytest.mark.parametrize("blank", ["\u3164", "\uffa0", "\u2800", "\u115f", "\u00a0", "\u3000", "\ufe0f"])
def test_what_shows_nothing_is_shown_as_a_question_mark(blank: str) -> None:
    assert clean(f"maria{blank}lopez") == "maria?lopez"


def test_spaces_push_nothing_out_of_sight() -> None:
    assert clean("  Maria" + " " * 150 + "(mallory@example.org) ") == "Maria (mallory@example.org)"


def test_long_text_is_cut_visibly() -> None:
    shown = clean("x" * 10_000)
    assert len(shown) == MAX_SHOWN
    assert shown.endswith("…")


@pytest.mark.parametrize("origin", ["https://bücher.example:8443", "https://xn--bcher-kva.example:8443"])
def test_an_international_name_is_shown_as_punycode(origin: str) -> None:
    assert origin_text(origin) == ("https://xn--bcher-kva.example:8443", "bücher.example")


def test_a_lookalike_does_not_look_alike() -> None:
    assert origin_text("https://аpple.example").ascii == "https://xn--pple-43d.example"  # noqa: RUF001


@pytest.mark.parametrize("label", ["xn--\u202e", "xn--99999999999", "xn--", "ß" * 80, "\u200dx"])
def test_a_name_that_is_none_is_still_shown_as_ascii(label: str) -> None:
    shown = origin_text(f"https://{label}.example")
    assert shown.ascii.isascii()
    assert shown.ascii.isprintable()


def test_a_plain_name_has_no_second_reading() -> None:
    assert origin_text("https://portal.example.edu") == ("https://portal.example.edu", None)
