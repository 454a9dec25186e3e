"""Several pytest processes do one run together: each takes the next file of tests that nobody has taken yet.

Every process collects the same tests. ``--share=FOLDER`` names an empty folder that they have in common: who creates a
file's mark in it runs that file's tests, with the fixtures of its own session and in namespaces of its own. So two
processors are busy until the end, however long each file takes, and no list of durations is kept up.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


def add_option(parser: pytest.Parser) -> None:
    """Make ``--share`` known."""
    parser.addoption(
        "--share", type=Path, metavar="FOLDER", help="take files of tests in turn with who names it too"
    )


class SharedRun:
    """The loop over the tests, for a run that is shared.

    Attributes:
        folder: of the marks, the same for every process, empty at the start.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """As pytest's own, over the files that this process got. Collection errors end the run, as there."""
        if session.testsfailed:
            message = f"{session.testsfailed} errors during collection"
            raise session.Interrupted(message)
        if session.config.option.collectonly:
            return True
        items = self.items(session.items)
        item = next(items, None)
        while item is not None:
            following = next(items, None)  # known before, so that fixtures stay for the tests that want them
            session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.shouldfail:
                raise session.Failed(session.shouldfail)
            if session.shouldstop:
                raise session.Interrupted(session.shouldstop)
            item = following
        return True

    def items(self, collected: list[pytest.Item]) -> Iterator[pytest.Item]:
        """The tests of each file that this process is the first to mark."""
        # pytest may have put tests of another file between those of one
        files: dict[Path, list[pytest.Item]] = {}
        for test in collected:
            files.setdefault(test.path, []).append(test)
        for path, tests in files.items():
            if self._mark(path):
                yield from tests

    def _mark(self, path: Path) -> bool:
        mark = self.folder / hashlib.sha256(bytes(path)).hexdigest()
        try:
            mark.touch(exist_ok=False)
        except FileExistsError:
            return False
        return True
