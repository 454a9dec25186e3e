"""The rule for skipped tests: named with a reason everywhere, and none at all where all can run."""

from __future__ import annotations

import pytest

NAMED = "needs "  # a skip says what the machine lacks


class SkipRule:
    """Makes a run fail for a skip that has no excuse.

    ``needs …`` excuses one, unless the run is strict: on a machine where everything can run
    (root on Debian with the packages of packaging/) nothing may be skipped.
    """

    def __init__(self, *, strict: bool) -> None:
        """Judge with or without excuses."""
        self.strict = strict
        self.unexcused: list[str] = []

    def judge(self, where: str, reason: str) -> None:
        """Note a skip at ``where`` if ``reason`` is no excuse."""
        if self.strict or not reason.startswith(NAMED):
            self.unexcused.append(f"{where}: {reason}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test was skipped or is expected to fail: both mean that it shows nothing."""
        if report.skipped:
            self.judge(report.nodeid, _reason(report.longrepr))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A whole file was skipped."""
        if report.skipped:
            self.judge(report.nodeid, _reason(report.longrepr))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Turn a good end into a failure."""
        if self.unexcused and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say which."""
        if self.unexcused:
            terminalreporter.section("skipped without excuse", red=True)
            for line in self.unexcused:
                terminalreporter.line(line)


def _reason(longrepr: object) -> str:
    text = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
    return str(text).removeprefix("Skipped: ")
