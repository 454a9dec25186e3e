"""A program that ends itself after a minute, told by ``alarm``, does so after seconds: a library put before its own.

The first alarm stays as long as it is: a program that waits for its first client isn't hurried.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

SECONDS: Final = 5
"""How long an alarm is at the most, but for the first one."""

_SOURCE: Final = """
#define _GNU_SOURCE
#include <dlfcn.h>

unsigned alarm(unsigned seconds)
{
    static int asked;
    unsigned (*real)(unsigned) = (unsigned (*)(unsigned))dlsym(RTLD_NEXT, "alarm");
    return real(asked++ && seconds > SECONDS ? SECONDS : seconds);
}
"""


def build(folder: Path) -> Path:
    """Build the library, for ``LD_PRELOAD``.

    Args:
        folder: an existing one, where it is left.
    """
    source, library = folder / "short_alarm.c", folder / "short_alarm.so"
    source.write_text(_SOURCE)
    command = [
        "gcc",
        "-Wall",
        "-shared",
        "-fPIC",
        f"-DSECONDS={SECONDS}u",
        "-o",
        str(library),
        str(source),
        "-ldl",
    ]
    subprocess.run(command, check=True, timeout=60)
    return library
