"""Foreign text made safe to show: no control or direction-changing characters, bounded, hosts in ASCII."""

from __future__ import annotations

from typing import Final, NamedTuple

MAX_SHOWN = 300
"""Characters of one text that are shown; more than any honest name, few enough to keep a window whole."""


class OriginText(NamedTuple):
    """An origin as it is shown.

    Attributes:
        ascii: the exact origin, international names as punycode.
        reading: what the punycode reads as, or None for a plain name.
    """

    ascii: str
    reading: str | None


_BLANK: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters and marks that are printable by the Unicode tables and show nothing: they pad as spaces do."""


def clean(text: str) -> str:
    """The text with unprintable and blank characters as ``?``, one space where there are several, cut at `MAX_SHOWN`.

    Unprintable are controls and bidirectional marks. What pads could push the rest of a line out of sight.
    """
    single = " ".join(part for part in text.split(" ") if part)
    shown = "".join(character if _is_shown(character) else "?" for character in single)
    return shown if len(shown) <= MAX_SHOWN else shown[: MAX_SHOWN - 1] + "…"


def origin_text(origin: str) -> OriginText:
    """How an origin is shown: always the ASCII form, so that no letter can pass for another."""
    scheme, separator, rest = origin.partition("://")
    host, colon, port = rest.partition(":")
    labels = [_to_ascii(label) for label in host.split(".")]
    exact = clean(f"{scheme}{separator}{'.'.join(labels)}{colon}{port}")
    if not any(label.startswith("xn--") for label in labels):
        return OriginText(exact, None)
    return OriginText(exact, clean(".".join(_to_reading(label) for label in labels)))


def _is_shown(character: str) -> bool:
    selector = "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
    return character.isprintable() and character not in _BLANK and not selector


def _to_ascii(label: str) -> str:
    if label.isascii():
        return label
    try:
        return label.encode("idna").decode("ascii")
    except UnicodeError:
        return "xn--" + label.encode("punycode").decode("ascii")


def _to_reading(label: str) -> str:
    if not label.startswith("xn--"):
        return label
    try:
        return label[4:].encode("ascii").decode("punycode")
    except (UnicodeError, OverflowError, ValueError):
        return label
