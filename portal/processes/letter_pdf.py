"""The letter with a PIN or PUK as a PDF: one page of A4, address at the top, the secret in the lower half."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

from reportlab.lib.pagesizes import A4
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas

if TYPE_CHECKING:
    from collections.abc import Sequence

_WORDS: Final = {"pin": "PIN", "puk": "PUK"}
_TEXTS: Final = {
    "pin": (
        "This is the PIN of your new card. Activate the card in Self-Service, under Cards, before its first use.",
        "Choose a PIN of your own there, with Unblock or change PIN, and destroy this letter.",
    ),
    "puk": (
        "This is the PUK of your new card. With it the card gets a new PIN when the PIN is blocked or forgotten.",
        "Keep this letter locked up, and apart from the card.",
    ),
    "first puk": (
        "This is the PUK of your new card, which has no PIN that you could know. Choose one in Self-Service, under",
        "Cards, with Set PIN and this PUK. Then activate the card. Keep this letter locked up, apart from the card.",
    ),
}
_LEFT: Final = 25 * mm
_LINE: Final = 6 * mm


def letter(
    kind: str,
    secret: bytes | bytearray,
    label: str,
    serial: str,
    name: str,
    email: str,
    portal: str,
    *,
    pin_told: bool = True,
) -> bytes:
    """One letter.

    Args:
        kind: ``pin`` or ``puk``.
        secret: what it tells: digits.
        label: of the card.
        serial: as it is printed on the card.
        name: the holder's; left out where the letter's font hasn't its characters.
        email: the holder's address.
        portal: the portal's id.
        pin_told: the holder learns the PIN as well.

    Returns:
        PDF. The text is compressed and not encrypted: whoever has it can read it.
    """
    word, file = _WORDS[kind], io.BytesIO()
    canvas = _sheet(file, f"{word} letter", portal)
    top = A4[1] - 50 * mm
    _lines(canvas, top, 11, [text for text in (_printable(name), email) if text])
    canvas.setFont("Helvetica-Bold", 16)
    canvas.drawString(_LEFT, top - 40 * mm, f"{word} of your card")
    facts = [f"Card: {_printable(label) or 'your new card'}", f"Serial number: {serial}", f"Portal: {portal}"]
    _lines(canvas, top - 52 * mm, 11, facts)
    _lines(canvas, top - 78 * mm, 11, _TEXTS[kind if pin_told or kind == "pin" else "first puk"])
    _framed(canvas, top - 125 * mm, secret)
    canvas.showPage()
    canvas.save()
    return file.getvalue()


def _sheet(file: io.BytesIO, title: str, author: str) -> Canvas:
    canvas = Canvas(file, pagesize=A4)
    canvas.setTitle(title)
    canvas.setAuthor(author)
    return canvas


def _lines(canvas: Canvas, top: float, size: int, texts: Sequence[str]) -> None:
    canvas.setFont("Helvetica", size)
    for number, text in enumerate(texts):
        canvas.drawString(_LEFT, top - number * _LINE, text)


def _framed(canvas: Canvas, bottom: float, secret: bytes | bytearray) -> None:
    canvas.rect(_LEFT, bottom, 80 * mm, 25 * mm)
    canvas.setFont("Courier-Bold", 28)
    canvas.drawString(_LEFT + 8 * mm, bottom + 9 * mm, secret.decode("ascii"))


def _printable(text: str) -> str:
    """A text that the standard fonts of PDF can show (WinAnsiEncoding); empty for another."""
    try:
        text.encode("cp1252")
    except UnicodeEncodeError:
        return ""
    return text
