"""The machine's own pcscd with Inlay's virtual readers: used where it runs, else started.

Unlike the tests' private one, every program on this machine sees this one's readers.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from demo_state import INSTALL_READERS, READERS, SYSTEM_PCSCD, DemoError, as_root, with_systemd

from tests.support.pcscd import READER_CONF
from tests.support.processes import Child, wait_until

if TYPE_CHECKING:
    from demo_state import State

_RUN = Path("/run/pcscd")
_SOCKET = _RUN / "pcscd.comm"
_PID_FILE = _RUN / "pcscd.pid"
_INSTALLED = Path("/etc/reader.conf.d/inlay")
_READER = "Inlay Virtual Reader"
_READY_SECONDS = 20.0


class SystemPcscd:
    """pcscd for the time of a demo.

    Attributes:
        said: what was done, and what could not be, for a person.
    """

    def __init__(self, folder: Path, state: State, *, outlives: bool) -> None:
        """Prepare, without changing anything.

        Args:
            folder: existing folder for the log.
            state: where changes are written down before they are made.
            outlives: it goes on when this process ends.
        """
        self._log = folder / "pcscd.log"
        self._state = state
        self._outlives = outlives
        self.said: list[str] = []

    def start(self) -> None:
        """See that the readers are there.

        Raises:
            DemoError: they can't be had.
        """
        ran = _answers()
        if not _configured():
            self._install_readers()
        if not ran:
            self._start()
        elif not _readers_there():
            self.said.append("pcscd ran already: told to look for new readers")
            subprocess.run(as_root("pcscd", "--hotplug"), check=False, capture_output=True)
        else:
            self.said.append("pcscd ran already, with the virtual readers")
        wait_until(
            _readers_there, "the virtual readers in pcscd", seconds=_READY_SECONDS, evidence=self._evidence
        )

    def _install_readers(self) -> None:
        self._state.changed(READERS)
        done = subprocess.run(as_root(INSTALL_READERS), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            why = f"the virtual readers could not be installed: {done.stderr.strip()}"
            raise DemoError(why, "root is needed for that: run the demo as root, or let sudo work")
        self.said.append(f"virtual readers installed as {_INSTALLED}")
        for line in done.stderr.splitlines():
            if "restart pcscd" not in line:
                self.said.append(line.removeprefix("install-readers: "))

    def _start(self) -> None:
        if with_systemd():
            self._state.changed(SYSTEM_PCSCD)
            argv = as_root("systemctl", "start", "pcscd.socket")
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise DemoError(
                    f"pcscd was not started: {done.stderr.strip()}", "look at: journalctl -u pcscd"
                )
            self.said.append("pcscd started by systemd")
            return
        for stale in (_SOCKET, _PID_FILE):  # left behind by one that was killed
            with contextlib.suppress(FileNotFoundError, PermissionError):
                stale.unlink()
        argv = ["pcscd", "--foreground", "--error", *([] if os.geteuid() == 0 else ["--disable-polkit"])]
        child = Child(as_root(*argv), log=self._log, outlives=self._outlives)
        child.wait_until(_answers, "pcscd's socket", seconds=_READY_SECONDS)
        self._state.started("pcscd", int(_PID_FILE.read_text().strip("\0\n ")))
        self.said.append("pcscd started: systemd doesn't run here")

    def _evidence(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""


def _configured() -> bool:
    """Whether the readers are installed as they are in this checkout."""
    return _INSTALLED.is_file() and _INSTALLED.read_bytes() == READER_CONF.read_bytes()


def _answers() -> bool:
    """Whether something accepts PC/SC clients."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(_SOCKET))
        except OSError:
            return False
    return True


def _readers_there() -> bool:
    done = subprocess.run(
        ["opensc-tool", "--list-readers"], capture_output=True, text=True, timeout=30, check=False
    )
    return done.stdout.count(_READER) >= 8
