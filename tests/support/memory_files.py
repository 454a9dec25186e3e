"""Temporary files of a test run lie in memory: what agent and portal persist at each step costs no disk's time.

Agent, portal and databases wait for the disk at every step of an order, as they must: a power cut loses nothing. No
test cuts the power; what is killed loses nothing that was written, on any file system. So the run's own folder of
temporary files is a file system in memory, seen by this process and its programs alone, and gone with them. What a
failed run has left is copied to where it stays.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest

from tests.support import isolation

MOUNT = Path("/tmp/inlay")  # noqa: S108  # short: the names of sockets in it are bounded
"""Where it is mounted; the folder below is empty and stays."""
KEPT_BYTES = 20_000_000
"""No larger file is copied after a failed run."""


def use() -> None:
    """From now on; in namespaces of the run's own, or in those of the process that started this one.

    Raises:
        IsolationError: the system refuses.
    """
    given = Path(os.environ.get("TMPDIR", "/"))
    if given.parent == MOUNT and given.is_dir() and MOUNT.is_mount():
        return  # a process of a run, in namespaces of its own again: it meets the files it is given
    MOUNT.mkdir(exist_ok=True)
    isolation.tmpfs(MOUNT, 0o1777)
    own = (
        MOUNT / f"{os.getpid():x}"
    )  # two runs at once see each other's processes, and have no name in common
    own.mkdir()
    own.chmod(0o1777)
    os.environ["TMPDIR"] = tempfile.tempdir = str(own)


class KeptFiles:
    """Copies the temporary files of a run that failed to a folder on the disk, and says where."""

    def __init__(self) -> None:
        self._kept: Path | None = None

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fixtures of the whole run have ended: nobody writes any more."""
        if session.testsfailed:
            self._kept = keep(Path(tempfile.gettempdir()))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say where."""
        if self._kept is not None:
            terminalreporter.write_line(f"the temporary files of this run are kept in {self._kept}")


def keep(folder: Path, where: Path = MOUNT.parent) -> Path:
    """Copy a folder's files of up to ``KEPT_BYTES``, and neither sockets nor links, into a new folder in ``where``."""
    kept = Path(tempfile.mkdtemp(prefix="inlay-failed-", dir=where))
    for path in folder.rglob("*"):
        found = path.lstat()
        if stat.S_ISREG(found.st_mode) and found.st_size <= KEPT_BYTES:
            target = kept / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    return kept
