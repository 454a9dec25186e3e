"""A pcscd of the test run's own, with the reader configuration the product ships.

Needs :mod:`tests.support.isolation` to have been entered: pcscd's socket has a fixed path, which
is private to the run's mount namespace. PC/SC clients started by a test, and pyscard in the test
process itself, reach this pcscd without any setting.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Self

from tests.support import isolation
from tests.support.processes import Child

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PACKAGING = Path(__file__).parents[2] / "packaging" / "linux"
READER_CONF = PACKAGING / "vpcd-reader.conf"
SLOTS_PER_ENTRY = 2

_SOCKET = Path("/run/pcscd/pcscd.comm")
_ENTRY = re.compile(
    r'^FRIENDLYNAME\s+"(?P<name>[^"]+)"\s+DEVICENAME\s+/dev/null:(?P<port>\w+)$', re.MULTILINE
)
_LISTEN = "0A"  # /proc/net/tcp's state column


def _slots() -> dict[int, str]:
    entries = [(m["name"], int(m["port"], 16)) for m in _ENTRY.finditer(READER_CONF.read_text())]
    return {port + slot: f"{name} 00 {slot:02d}" for name, port in entries for slot in range(SLOTS_PER_ENTRY)}


SLOTS: Final = _slots()
"""Each slot's port, and its reader's PC/SC name, in the order of the configuration."""


class PrivatePcscd:
    """pcscd in the foreground, readable through ``log``.

    Attributes:
        vpcd_ports: TCP ports on 127.0.0.1, one for each slot: a card connects to one.
        readers: PC/SC names of the slots, in the ports' order.
        auto_exit: whether pcscd quits 60 s after its last client, as Debian's unit has it.
        preloaded: a library that stands before pcscd's own, from the next start on.
        others: folder of configured readers that it has instead of its own, from the next start on.
        starts: of all of this run so far; each one counts its readers' events anew.
    """

    starts: ClassVar[int] = 0

    def __init__(self, folder: Path, *, auto_exit: bool = False) -> None:
        """Prepare, without starting it.

        Args:
            folder: existing folder for the log.
            auto_exit: see the class.

        Raises:
            RuntimeError: the test run isn't isolated.
        """
        if not isolation.entered():
            raise RuntimeError("a private pcscd needs the test run's own namespaces")
        self.auto_exit = auto_exit
        self.others: Path | None = None
        self.preloaded: Path | None = None
        self._log = folder / "pcscd.log"
        self._child: Child | None = None
        self.vpcd_ports = tuple(SLOTS)
        self.readers = tuple(SLOTS.values())
        subprocess.run([PACKAGING / "install-readers", "--readers-only"], check=True)

    @property
    def vpcd_port(self) -> int:
        """The first slot's port."""
        return self.vpcd_ports[0]

    @property
    def pid(self) -> int:
        """The process id of the running pcscd."""
        return self._running().pid

    def log(self) -> str:
        """What pcscd has printed since it was first started."""
        return self._log.read_text(errors="replace")

    @property
    def running(self) -> bool:
        """Whether it is there still."""
        return self._child is not None and self._child.running()

    def start(self) -> Self:
        """Start pcscd and wait until its socket and all slots listen."""
        _SOCKET.unlink(missing_ok=True)  # a killed pcscd leaves its socket and pid file behind
        (_SOCKET.parent / "pcscd.pid").unlink(missing_ok=True)
        argv = ["pcscd", "--foreground", "--error", *(["--auto-exit"] if self.auto_exit else [])]
        argv += [] if self.others is None else ["--config", str(self.others)]
        env = None if self.preloaded is None else {**os.environ, "LD_PRELOAD": str(self.preloaded)}
        self._child = Child(argv, log=self._log, env=env)
        PrivatePcscd.starts += 1
        self._child.wait_until(self._listens, "pcscd's socket and vpcd's ports")
        return self

    def stop(self) -> None:
        """End pcscd; the readers are gone for its clients."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def kill(self) -> None:
        """End pcscd as a crash would."""
        self._running().kill()
        self._child = None

    def restart(self) -> None:
        """Stop pcscd and start it again."""
        self.stop()
        self.start()

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        seconds: float = 60,
        stdin: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """Run a PC/SC client to its end.

        Args:
            argv: the command.
            env: its whole environment; the test run's when left out.
            seconds: the longest it may take.
            stdin: text for its standard input.

        Returns:
            The finished process, exit code unchecked, with standard output and error as text.

        Raises:
            subprocess.TimeoutExpired: it took longer.
        """
        return subprocess.run(
            list(argv),
            env=None if env is None else dict(env),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def _running(self) -> Child:
        if self._child is None:
            raise RuntimeError("pcscd isn't running")
        return self._child

    def _listens(self) -> bool:
        slots = set(self.vpcd_ports) if self.others is None else set()
        return _SOCKET.is_socket() and slots <= listening_ports()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        self.stop()


def listening_ports() -> set[int]:
    """TCP ports (IPv4) that something listens on in this network namespace.

    Read from the kernel's table: a connection to vpcd, even a short one, would be a card.
    """
    rows = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    return {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == _LISTEN}
