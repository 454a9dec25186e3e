"""Waits for a PC/SC service that isn't there, without asking again and again.

pcscd makes its socket when it starts. Where the kernel tells of new files (inotify), that is waited for; where it
doesn't, the wait ends by itself after a while and the caller tries.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
from pathlib import Path
from typing import Final

SOCKET_FOLDER: Final = Path("/run/pcscd")
"""Where pcscd makes its socket (pcsc-lite's default, and Debian's)."""
_SOCKET_NAME: Final = "pcscd.comm"
FALL_BACK_SECONDS: Final = 5.0

_CREATE, _MOVED_TO, _DELETE_SELF, _MOVE_SELF = 0x100, 0x80, 0x400, 0x800  # inotify(7)
_FLAGS: Final = os.O_CLOEXEC | os.O_NONBLOCK  # IN_CLOEXEC, IN_NONBLOCK


class ServiceWait:
    """Something that a thread can wait on: a file appears where pcscd makes its socket, or `wake` is called.

    Made before the service is tried, so that a service which starts between the try and the wait isn't missed.
    """

    def __init__(self, folder: Path = SOCKET_FOLDER) -> None:
        """Begin to watch.

        Raises:
            OSError: no descriptors are left.
        """
        self._folder = folder
        self._wake_read, self._wake_write = os.pipe()
        self._inotify = _watch(folder)

    @property
    def socket_is_there(self) -> bool:
        """Whether pcscd's socket exists: something may start pcscd for it without making it anew."""
        return (self._folder / _SOCKET_NAME).is_socket()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until a file appears, `wake` is called, or the time is over.

        Args:
            seconds: the longest wait; None is for ever where the kernel tells of files.

        Returns:
            Whether a file appeared.
        """
        watched = [self._wake_read]
        if self._inotify is not None:
            watched.append(self._inotify)
        elif seconds is None:
            seconds = FALL_BACK_SECONDS
        poll = select.poll()
        for descriptor in watched:
            poll.register(descriptor, select.POLLIN)
        ready = [descriptor for descriptor, _ in poll.poll(None if seconds is None else seconds * 1000)]
        appeared = self._inotify in ready
        self._begin_again()
        return appeared

    def wake(self) -> None:
        """End the wait, now or the next one; from any thread."""
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b"w")

    def close(self) -> None:
        """Stop watching."""
        for descriptor in (self._inotify, self._wake_read, self._wake_write):
            if descriptor is not None:
                os.close(descriptor)

    def _begin_again(self) -> None:
        """Watch anew: the folder itself may have come or gone."""
        if self._inotify is not None:
            os.close(self._inotify)
        self._inotify = _watch(self._folder)


def _watch(folder: Path) -> int | None:
    """An inotify descriptor for new files in a folder, or in the nearest folder above it that is there."""
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "inotify_init1"):
        return None
    descriptor = library.inotify_init1(_FLAGS)
    if descriptor < 0:
        return None
    mask = _CREATE | _MOVED_TO | _DELETE_SELF | _MOVE_SELF
    for place in (folder, *folder.parents):
        if library.inotify_add_watch(descriptor, os.fsencode(place), mask) >= 0:
            return int(descriptor)
    os.close(descriptor)
    return None
