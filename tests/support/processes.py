"""Programs a test starts: each ends with the test, even when the test run is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

POLL_SECONDS = 0.01
TERM_SECONDS = 5.0


class NotReadyError(AssertionError):
    """Something a test waits for didn't come true in time.

    Attributes:
        what: what was waited for.
        seconds: for how long.
    """

    def __init__(self, what: str, seconds: float, evidence: str = "") -> None:
        self.what = what
        self.seconds = seconds
        self.evidence = evidence
        super().__init__(what, seconds)

    def __str__(self) -> str:
        """Name what was waited for and what was seen instead."""
        return f"waited {self.seconds:g} s for: {self.what}\n{self.evidence}"


def wait_until(
    condition: Callable[[], bool],
    what: str,
    *,
    seconds: float = 10.0,
    evidence: Callable[[], str] = str,
    every: float = POLL_SECONDS,
) -> None:
    """Return as soon as ``condition`` holds.

    Only for what gives no event to wait for, such as another program's listening socket.

    Args:
        condition: asked again and again.
        what: named when it doesn't come true.
        seconds: the longest wait.
        evidence: called then, for what was seen instead.
        every: seconds between two questions; longer where one costs as much as what is waited for.

    Raises:
        NotReadyError: ``condition`` didn't hold in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise NotReadyError(what, seconds, evidence())
        time.sleep(every)


class Child:
    """A running program with its output in a file, ended by ``stop`` or with the test run.

    The program is started through ``setpriv --pdeathsig``: should the test run be killed, the
    kernel ends the program too. It does so when the *thread* that started it ends, so start
    programs in the main thread, not through ``asyncio.to_thread``. One that ``outlives`` its starter
    has to be ended by its process id.

    Attributes:
        argv: the command.
        log: the file with its standard output and error.
        process: the ``Popen`` behind it.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        pass_fds: Sequence[int] = (),
        stdin: int | None = None,
        outlives: bool = False,
    ) -> None:
        self.argv = list(argv)
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                self.argv if outlives else ["setpriv", "--pdeathsig", "KILL", "--", *self.argv],
                stdin=subprocess.DEVNULL if stdin is None else stdin,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if env is None else dict(env),
                cwd=cwd,
                pass_fds=pass_fds,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The program's process id (``setpriv`` replaces itself by the program)."""
        return self.process.pid

    def running(self) -> bool:
        """Whether the program hasn't ended yet."""
        return self.process.poll() is None

    def output(self) -> str:
        """Everything the program has printed so far."""
        return self.log.read_text(errors="replace")

    def wait_until(self, condition: Callable[[], bool], what: str, *, seconds: float = 10.0) -> None:
        """Like :func:`wait_until`, and fails at once with the output when the program ends first."""

        def met_or_dead() -> bool:
            return condition() or not self.running()

        wait_until(met_or_dead, what, seconds=seconds, evidence=self.output)
        if not condition():
            raise NotReadyError(f"{what}, but {self.argv[0]} ended", 0, self.output())

    def stop(self) -> int:
        """End the program and its process group: asked first, killed after 5 s.

        Returns:
            The exit code, negative for a signal.
        """
        if self.running():
            self._signal(signal.SIGTERM)
            try:
                self.process.wait(TERM_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process.wait()

    def kill(self) -> None:
        """End the program and its process group as a crash would."""
        self._signal(signal.SIGKILL)
        self.process.wait()

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            # ended in between, or its group isn't made yet because the program is just starting
            self.process.send_signal(number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()
