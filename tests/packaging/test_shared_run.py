"""A run that several processes share: every test runs in exactly one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from tests.support.shared_run import SharedRun

if TYPE_CHECKING:
    from pathlib import Path


class _Test:
    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name


def collected(folder: Path, *names: str) -> list[pytest.Item]:
    """Tests as ``file:test``."""
    pairs = (name.split(":") for name in names)
    return cast("list[pytest.Item]", [_Test(folder / file, test) for file, test in pairs])


def test_each_file_is_taken_once(tmp_path: Path) -> None:
    """Whoever asks next gets the next file, also where pytest has put another file's test between its tests."""
    tests = collected(tmp_path, "a:1", "b:1", "a:2", "c:1")
    first, second = SharedRun(tmp_path).items(tests), SharedRun(tmp_path).items(tests)
    assert [next(first).name, next(first).name] == ["1", "2"]
    assert next(second).path.name == "b"
    assert next(first).path.name == "c"
    assert next(second, None) is None
    assert next(first, None) is None


def test_a_shared_run_says_a_failure(pytester: pytest.Pytester, tmp_path: Path) -> None:
    """The process that got the failing test fails, the other one has the rest; nothing runs twice or never."""
    (tmp_path / "taken").mkdir()
    pytester.makeconftest("""
        from pathlib import Path
        from tests.support import shared_run
        def pytest_addoption(parser):
            shared_run.add_option(parser)
        def pytest_configure(config):
            config.pluginmanager.register(shared_run.SharedRun(config.getoption("--share")))
    """)
    pytester.makepyfile(
        test_one="def test(): assert False", test_two="def test(): pass\ndef test_more(): pass"
    )
    arguments = ("-p", "no:cacheprovider", f"--share={tmp_path}/taken")
    both = [pytester.runpytest_subprocess(*arguments) for _ in range(2)]
    assert [run.ret for run in both] == [pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.OK]
    both[0].assert_outcomes(failed=1, passed=2)
    both[1].assert_outcomes()
