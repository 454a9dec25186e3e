"""The real agent of a person with a home of her own: its daemon, and its command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.processes import Child, NotReadyError

if TYPE_CHECKING:
    from collections.abc import Mapping

_READY_SECONDS = 30


class AgentProcess:
    """The agent, started by the launcher that is installed for the person.

    Attributes:
        home: the person's home.
        env: the person's environment.
        launcher: the installed ``inlay`` command; there after ``register``.
        log_file: what the daemon prints; its own log is ``state / "log"``.
    """

    def __init__(self, folder: Path, env: Mapping[str, str], *, outlives: bool = False) -> None:
        """Prepare; nothing is started yet.

        Args:
            folder: existing folder for what the daemon prints.
            env: with ``HOME`` and ``XDG_RUNTIME_DIR``, and without other XDG folders.
            outlives: the daemon goes on when this process ends.
        """
        self.env = dict(env)
        self.home = Path(self.env["HOME"])
        self.launcher = self.home / ".local/share/inlay/bin/inlay"
        self.state = self.home / ".local/state/inlay"
        self.log_file = folder / "agent.log"
        self._outlives = outlives
        self._child: Child | None = None

    @property
    def pid(self) -> int:
        """Process id of the running daemon."""
        if self._child is None:
            raise RuntimeError("the agent isn't running")
        return self._child.pid

    def register(self) -> None:
        """Install launcher and desktop entries for this person, as installation does."""
        argv = [sys.executable, "-I", "-m", "agent.desktop.link_handler", "link", "register", "--json"]
        done = subprocess.run(
            argv, env=self.env, cwd="/", capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"inlay link register: {done.stdout}{done.stderr}"

    def start(self) -> None:
        """Start the daemon and wait until it says that it listens.

        Raises:
            NotReadyError: it ended, or said nothing in time.
        """
        read_end, write_end = os.pipe()
        with os.fdopen(read_end, "rb", buffering=0) as ready:
            try:
                self._child = Child(
                    [str(self.launcher), "agent", "--ready-fd", str(write_end)],
                    log=self.log_file,
                    env=self.env,
                    cwd=Path("/"),
                    pass_fds=[write_end],
                    outlives=self._outlives,
                )
            finally:
                os.close(write_end)
            if not ready.read(16):
                raise NotReadyError("the agent", 0, self._child.output())

    def stop(self) -> None:
        """End the daemon as a log-out does."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def kill(self) -> None:
        """End the daemon as a crash would."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def run(self, *arguments: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run an ``inlay`` command to its end, exit code unchecked."""
        return subprocess.run(
            [str(self.launcher), *arguments],
            env=self.env,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def ask(self, *arguments: str) -> Any:
        """What an ``inlay … --json`` command prints.

        Raises:
            AssertionError: it was refused.
        """
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, f"inlay {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return json.loads(done.stdout)

    def logs(self) -> str:
        """All that the daemon wrote."""
        files = [self.log_file, *sorted((self.state / "log").glob("*"))]
        return "\n".join(path.read_text(errors="replace") for path in files if path.is_file())
