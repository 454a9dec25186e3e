"""Small smooth pictures, drawn by arithmetic.

Tk's own canvas knows no anti-aliasing, and so no picture files have to be shipped for a handful of
symbols at any scale.

A picture is a list of layers; each is a distance function (negative inside, in pixels) and a colour.
"""

from __future__ import annotations

import itertools
import math
import struct
import zlib
from collections.abc import Callable, Sequence

Distance = Callable[[float, float], float]
Layer = tuple[Distance, str]


def rounded(left: float, top: float, right: float, bottom: float, radius: float) -> Distance:
    """A rectangle with round corners."""
    middle_x, middle_y = (left + right) / 2, (top + bottom) / 2
    half_x, half_y = (right - left) / 2 - radius, (bottom - top) / 2 - radius

    def distance(x: float, y: float) -> float:
        across, down = abs(x - middle_x) - half_x, abs(y - middle_y) - half_y
        outside = math.hypot(max(across, 0.0), max(down, 0.0))
        return outside + min(max(across, down), 0.0) - radius

    return distance


def disc(x: float, y: float, radius: float) -> Distance:
    """A filled circle."""
    return lambda px, py: math.hypot(px - x, py - y) - radius


def ring(x: float, y: float, radius: float, width: float) -> Distance:
    """A circle's outline."""
    return lambda px, py: abs(math.hypot(px - x, py - y) - radius) - width / 2


def stroke(points: Sequence[tuple[float, float]], width: float) -> Distance:
    """A line through points, with round ends."""
    pairs = list(itertools.pairwise(points))

    def distance(x: float, y: float) -> float:
        return min(_to_segment(x, y, start, end) for start, end in pairs) - width / 2

    return distance


def _to_segment(x: float, y: float, start: tuple[float, float], end: tuple[float, float]) -> float:
    across, down = end[0] - start[0], end[1] - start[1]
    along = ((x - start[0]) * across + (y - start[1]) * down) / (across * across + down * down)
    along = min(1.0, max(0.0, along))
    return math.hypot(x - start[0] - along * across, y - start[1] - along * down)


def png(width: int, height: int, layers: Sequence[Layer]) -> bytes:
    """Draw layers over each other on a transparent ground.

    Args:
        width: pixels.
        height: pixels.
        layers: bottom first; colours as ``#rrggbb``.

    Returns:
        A PNG file (RGBA, 8 bits).
    """
    painted = [(distance, _channels(colour)) for distance, colour in layers]
    rows = bytearray()
    for row in range(height):
        rows.append(0)
        for column in range(width):
            rows += _pixel(painted, column + 0.5, row + 0.5)
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(bytes(rows), 1))
        + _chunk(b"IEND", b"")
    )


def _pixel(painted: list[tuple[Distance, tuple[int, int, int]]], x: float, y: float) -> bytes:
    red = green = blue = 0.0
    alpha = 0.0
    for distance, colour in painted:
        cover = min(1.0, max(0.0, 0.5 - distance(x, y)))
        if cover:
            whole = cover + alpha * (1 - cover)
            kept = alpha * (1 - cover) / whole
            fresh = cover / whole
            red = red * kept + colour[0] * fresh
            green = green * kept + colour[1] * fresh
            blue = blue * kept + colour[2] * fresh
            alpha = whole
    return bytes((round(red), round(green), round(blue), round(alpha * 255)))


def _channels(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def card(size: int) -> bytes:
    """The product's sign: a card with its chip, for the header band and the window's icon."""
    unit = size / 64

    def box(left: int, top: int, right: int, bottom: int, radius: float) -> Distance:
        return rounded(left * unit, top * unit, right * unit, bottom * unit, radius * unit)

    def line(*points: tuple[int, int]) -> Distance:
        return stroke([(x * unit, y * unit) for x, y in points], 2.2 * unit)

    return png(
        size,
        size,
        [
            (box(2, 9, 62, 55, 8), "#e8f1f6"),
            (box(9, 22, 31, 42, 5), "#e0a92e"),
            (line((9, 29), (16, 29), (16, 35), (9, 35)), "#7d5a0c"),
            (line((31, 29), (24, 29), (24, 35), (31, 35)), "#7d5a0c"),
            (line((20, 22), (20, 29)), "#7d5a0c"),
            (line((20, 35), (20, 42)), "#7d5a0c"),
            (box(38, 24, 55, 28, 2), "#1c6e8c"),
            (box(38, 33, 50, 37, 2), "#8db3c4"),
            (box(9, 46, 42, 49, 1.5), "#b6cdd8"),
        ],
    )


def tick(size: int, colour: str) -> bytes:
    """A filled circle with a tick."""
    unit = size / 16
    points = [(4.6 * unit, 8.3 * unit), (7 * unit, 10.7 * unit), (11.4 * unit, 5.6 * unit)]
    return png(
        size, size, [(disc(size / 2, size / 2, 7.5 * unit), colour), (stroke(points, 1.7 * unit), "#ffffff")]
    )


def cross(size: int, colour: str) -> bytes:
    """A filled circle with a cross."""
    unit = size / 16
    low, high = 5.3 * unit, 10.7 * unit
    return png(
        size,
        size,
        [
            (disc(size / 2, size / 2, 7.5 * unit), colour),
            (stroke([(low, low), (high, high)], 1.7 * unit), "#ffffff"),
            (stroke([(low, high), (high, low)], 1.7 * unit), "#ffffff"),
        ],
    )


def circle(size: int, colour: str) -> bytes:
    """An empty circle: not yet."""
    unit = size / 16
    return png(size, size, [(ring(size / 2, size / 2, 6.7 * unit, 1.5 * unit), colour)])


def dot(size: int, colour: str) -> bytes:
    """A circle with a dot: under way."""
    unit = size / 16
    middle = size / 2
    return png(
        size,
        size,
        [(ring(middle, middle, 6.7 * unit, 1.5 * unit), colour), (disc(middle, middle, 3.4 * unit), colour)],
    )


def bullet(size: int, colour: str) -> bytes:
    """The point before a sentence."""
    return png(size, size, [(disc(size / 2, size / 2, size * 0.19), colour)])


def warning(size: int, colour: str) -> bytes:
    """A filled circle with an exclamation mark."""
    unit = size / 16
    middle = size / 2
    return png(
        size,
        size,
        [
            (disc(middle, middle, 7.5 * unit), colour),
            (stroke([(middle, 4.4 * unit), (middle, 8.8 * unit)], 1.8 * unit), "#ffffff"),
            (disc(middle, 11.6 * unit, 1.1 * unit), "#ffffff"),
        ],
    )
