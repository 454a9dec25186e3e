"""What a demo has started and changed on this machine: written down before it counts, and undone.

Standard library only: run by itself (`packaging/demo stop`) it ends a demo that was left running.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".run" / "demo"
INSTALL_READERS = ROOT / "packaging" / "linux" / "install-readers"

READERS = "readers"
SYSTEM_PCSCD = "system pcscd"

_TERM_SECONDS = 5.0
_STATE = FOLDER / "state.json"


class DemoError(Exception):
    """The demo can't go on.

    Attributes:
        why: what the system said.
        next_step: what to do about it.
    """

    def __init__(self, why: str, next_step: str) -> None:
        super().__init__(why)
        self.why = why
        self.next_step = next_step

    def __str__(self) -> str:
        return self.why


class State:
    """The record, in a file that is replaced as a whole.

    Attributes:
        processes: name to process id and start time (clock ticks since boot), in the order of starting.
        changes: what was changed on the system, in that order.
    """

    def __init__(self) -> None:
        """Begin an empty record."""
        self.processes: dict[str, dict[str, int]] = {}
        self.changes: list[str] = []

    @classmethod
    def read(cls) -> State | None:
        """The record of a demo; None when there is none."""
        try:
            raw: dict[str, Any] = json.loads(_STATE.read_text())
        except FileNotFoundError:
            return None
        found = cls()
        found.processes = raw["processes"]
        found.changes = raw["changes"]
        return found

    def started(self, name: str, pid: int) -> None:
        """Write down a process that was started."""
        self.processes[name] = {"pid": pid, "started": start_time(pid) or 0}
        self._write()

    def changed(self, what: str) -> None:
        """Write down a change of the system that is about to be made."""
        self.changes.append(what)
        self._write()

    def running(self) -> list[str]:
        """Names of processes that still run."""
        return [name for name, process in self.processes.items() if _is_same(process)]

    def end(self) -> list[str]:
        """End every process and undo every change, the latest first.

        Returns:
            What was done, for a person.
        """
        done = []
        for name, process in reversed(self.processes.items()):
            if _is_same(process):
                _end(process["pid"])
                done.append(f"ended {name} (process {process['pid']})")
        for change in reversed(self.changes):
            done.append(_undo(change))
        self.processes, self.changes = {}, []
        self._write()
        return done

    def _write(self) -> None:
        new = _STATE.with_suffix(".new")
        new.write_text(json.dumps({"processes": self.processes, "changes": self.changes}))
        new.replace(_STATE)


def start_time(pid: int) -> int | None:
    """When a process was started, in clock ticks since boot; None when it has ended.

    Process ids are used again: only with this one is sure whom one meets.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else int(fields[18])


def as_root(*argv: str | Path) -> list[str]:
    """A command that runs as root: by sudo where this process doesn't."""
    command = [str(argument) for argument in argv]
    if os.geteuid() == 0:
        return command
    return ["sudo", *([] if sys.stdin.isatty() else ["-n"]), "--", *command]


def with_systemd() -> bool:
    """Whether systemd looks after services here."""
    return Path("/run/systemd/system").is_dir()


def _is_same(process: dict[str, int]) -> bool:
    return start_time(process["pid"]) == process["started"]


def _end(pid: int) -> None:
    """Ask the process to end; kill it, and its group where it leads one, when it doesn't."""
    try:
        watch = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        _signal(pid, signal.SIGTERM)
        if not select.select([watch], [], [], _TERM_SECONDS)[0]:
            _signal(pid, signal.SIGKILL)
            select.select([watch], [], [], _TERM_SECONDS)
    finally:
        os.close(watch)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        target = -pid if os.getpgid(pid) == pid else pid
        try:
            os.kill(target, number)
        except PermissionError:  # root's: started through sudo
            subprocess.run(as_root("kill", f"-{number.name.removeprefix('SIG')}", str(pid)), check=False)


def _undo(change: str) -> str:
    if change == READERS:
        subprocess.run(as_root(INSTALL_READERS, "--remove"), stderr=subprocess.DEVNULL, check=False)
        return "removed the virtual readers from pcscd's configuration"
    if with_systemd():
        subprocess.run(as_root("systemctl", "stop", "pcscd.socket", "pcscd.service"), check=False)
    return "stopped pcscd"


def main() -> int:
    """End what a demo left running."""
    state = State.read()
    if state is None:
        sys.stdout.write("demo: nothing was left running\n")
        return 0
    for line in state.end():
        sys.stdout.write(f"demo: {line}\n")
    shutil.rmtree(FOLDER)
    sys.stdout.write("demo: stopped\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
