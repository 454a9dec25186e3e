"""What a person reads in one of Inlay's windows: the letters of its picture, recognised by tesseract.

A window's text that is cut off, covered, or of the ground's colour isn't read here either. Half a second to a second of
a processor for one picture: each is read once.
"""

from __future__ import annotations

import functools
import hashlib
import re
import subprocess
from io import BytesIO
from typing import TYPE_CHECKING, Final

from PIL import Image, ImageOps

if TYPE_CHECKING:
    from tests.support.browser_questions import Picture

SCALE: Final = 2
"""Letters of a window are about ten pixels high; tesseract wants twenty and more."""
REMEMBERED: Final = 64
_ALIKE: Final = str.maketrans("|i1o", "lll0")
"""Read for one another: in some fonts they are one shape."""

_known: dict[bytes, str] = {}


def read(picture: Picture) -> str:
    """The words on a picture, line by line.

    Raises:
        AssertionError: tesseract failed.
    """
    key = hashlib.blake2b(picture.pixels, digest_size=16).digest()
    if key not in _known:
        if len(_known) >= REMEMBERED:
            _known.pop(next(iter(_known)))
        _known[key] = _recognised(picture)
    return _known[key]


def says(words: str, text: str) -> bool:
    """Whether a text is in what was read, wherever its lines were broken; letters and digits alone count."""
    return _bare(text) in _bare(words)


def _recognised(picture: Picture) -> str:
    grey = Image.frombytes("RGB", (picture.width, picture.height), picture.pixels).convert("L")
    if sum(grey.histogram()[:128]) > grey.width * grey.height / 2:
        grey = ImageOps.invert(grey)  # a dark window
    enlarged, drawn = (
        grey.resize((SCALE * grey.width, SCALE * grey.height), Image.Resampling.BICUBIC),
        BytesIO(),
    )
    enlarged.save(drawn, "PPM")
    # 4: one column of lines of various sizes; one thread, which is as quick and leaves the other processors alone
    command = ["tesseract", "-", "-", "-l", "eng", "--psm", "4", "--dpi", "192"]
    done = subprocess.run(
        command,
        input=drawn.getvalue(),
        capture_output=True,
        env={"PATH": "/usr/bin:/bin", "OMP_THREAD_LIMIT": "1"},
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode()


@functools.lru_cache(maxsize=2 * REMEMBERED)
def _bare(text: str) -> str:
    return re.sub(r"[\W_]", "", text.lower().translate(_ALIKE))
