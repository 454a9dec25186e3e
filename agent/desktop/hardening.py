"""Keeps a process that sees a PIN out of core files and away from other programs of the same user.

Best effort, as SECURITY says: the PIN is never on disk, in a log, a crash report, arguments or the
environment; in memory it is overwritten where the language allows it.
"""

from __future__ import annotations

import ctypes
import os
import resource

_PR_SET_DUMPABLE = 4


class HardeningFailed(OSError):
    """The system refused; a process that can't be hardened must not ask for a PIN."""


def forbid_dumps() -> None:
    """No core file, and no attaching or reading of memory by other programs of this user.

    See prctl(2), PR_SET_DUMPABLE: /proc/PID then belongs to root.

    Raises:
        HardeningFailed: the system refused.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise HardeningFailed(number, os.strerror(number))
