"""What an administrator decided for the machine, and how files that decide something are read."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Annotated, Final

import msgspec

from agent.folders import MACHINE_FOLDER

_MAX_FILE_BYTES: Final = 256 * 1024


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``/etc/inlay/policy.json``: what the administrator allows.

    Attributes:
        user_trust: users may trust further portals of their own.
        file_storage: the device secret may lie in a file where there is no key store.
        pin_lapse_minutes: minutes without use after which a virtual card forgets that its PIN was typed, 1 to
            1440; 0: not before it is taken out.
    """

    user_trust: bool = True
    file_storage: bool = True
    pin_lapse_minutes: Annotated[int, msgspec.Meta(ge=0, le=1440)] = 15

    @property
    def pin_lapse_seconds(self) -> float | None:
        """The same in seconds; None: never."""
        return 60.0 * self.pin_lapse_minutes or None


_STRICTEST: Final = Policy(user_trust=False, file_storage=False, pin_lapse_minutes=1)


def machine_policy(machine: Path = MACHINE_FOLDER, owner: int = 0) -> Policy:
    """Read the administrator's policy; defaults when there is none, the strictest when it can't be read."""
    raw = read_machine_file(machine / "policy.json", owner)
    if raw is None:
        return _STRICTEST if os.path.lexists(machine / "policy.json") else Policy()
    try:
        return msgspec.json.decode(raw, type=Policy)
    except msgspec.DecodeError:
        return _STRICTEST


def read_users_file(path: Path) -> bytes | None:
    """Read a file that only this user (or an administrator) could have written; None when it isn't one.

    Args:
        path: the file; its folder is looked at, too: who may write there may put another file in its place.
    """
    try:
        folder = path.parent.stat()
    except OSError:
        return None
    if folder.st_uid not in (os.geteuid(), 0) or folder.st_mode & 0o022:
        return None
    return read_machine_file(path, os.geteuid())


def read_machine_file(path: Path, owner: int = 0) -> bytes | None:
    """Read a file that only an administrator could have written; None when it isn't one.

    Args:
        path: the file.
        owner: user id of the administrator.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(stream.fileno())
        trusted = status.st_uid == owner and not status.st_mode & 0o022
        if not stat.S_ISREG(status.st_mode) or not trusted or status.st_size > _MAX_FILE_BYTES:
            return None
        return stream.read(_MAX_FILE_BYTES)
