"""The rules of a test run: skips need an excuse, event loops aren't blocked, children end."""

from __future__ import annotations

import ast
import asyncio
import gc
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import loop_watch
from tests.support.processes import Child, NotReadyError
from tests.support.skips import SkipRule

TESTS = Path(__file__).parents[1]
LONG = 3 * loop_watch.LIMIT_SECONDS
"""What a busy machine adds to that, or is forgiven of it, stays below the limit."""


def test_skip_without_excuse() -> None:
    """A reason that names no need is no excuse, on any machine."""
    rule = SkipRule(strict=False)
    rule.judge("tests/test_a.py::test_b", "flaky")
    assert rule.unexcused == ["tests/test_a.py::test_b: flaky"]


def test_skip_with_excuse_where_all_can_run() -> None:
    """Root on Debian has no excuse."""
    rule = SkipRule(strict=True)
    rule.judge("tests/test_a.py::test_b", "needs a card reader")
    assert rule.unexcused


def test_skip_with_excuse() -> None:
    """Elsewhere a named need is one."""
    rule = SkipRule(strict=False)
    rule.judge("tests/test_a.py::test_b", "needs namespaces of its own: refused")
    assert rule.unexcused == []


def test_blocked_loop_is_noticed() -> None:
    """A step that sleeps in the loop is recorded, one that awaits isn't."""

    async def block() -> None:
        time.sleep(LONG)  # noqa: ASYNC251

    asyncio.run(block())
    (blocked,) = loop_watch.take()
    assert blocked.seconds > loop_watch.LIMIT_SECONDS

    asyncio.run(asyncio.sleep(0.01))
    assert loop_watch.take() == []


def test_what_a_test_waits_for_on_purpose_is_excused_and_no_more() -> None:
    """What blocks beside it still counts."""

    async def wait(beside: float) -> None:
        with loop_watch.excused():
            time.sleep(LONG)  # noqa: ASYNC251
        time.sleep(beside)  # noqa: ASYNC251

    asyncio.run(wait(0))
    assert loop_watch.take() == []
    asyncio.run(wait(LONG))
    (blocked,) = loop_watch.take()
    assert blocked.seconds < LONG + loop_watch.LIMIT_SECONDS


def test_a_collection_of_garbage_is_not_the_doing_of_the_step_it_comes_in() -> None:
    """It goes through what every test before has left; what a step computes beside it still counts."""
    slow = gc.callbacks
    told = [lambda phase, _info: time.sleep(LONG) if phase == "start" else None]

    async def collect() -> None:
        slow.extend(told)
        try:
            gc.collect(0)
        finally:
            slow.remove(told[0])

    async def collect_and_block() -> None:
        await collect()
        time.sleep(LONG)  # noqa: ASYNC251

    asyncio.run(collect())
    assert loop_watch.take() == []
    asyncio.run(collect_and_block())
    (blocked,) = loop_watch.take()
    assert blocked.seconds < LONG + loop_watch.LIMIT_SECONDS


def test_child_that_ends_early_is_reported_with_its_output(tmp_path: Path) -> None:
    """The wait doesn't last to its limit, and says what the program printed."""
    child = Child(["sh", "-c", "echo no such display; exit 4"], log=tmp_path / "log")
    with pytest.raises(NotReadyError, match="no such display"):
        child.wait_until(lambda: False, "a window", seconds=20)
    assert child.stop() == 4


def test_stubborn_child_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that ignores the request to end is ended all the same."""
    monkeypatch.setattr("tests.support.processes.TERM_SECONDS", 0.2)
    child = Child(["sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 1; done"], log=tmp_path / "log")
    child.wait_until(lambda: "deaf" in child.output(), "the trap")
    assert child.stop() == -signal.SIGKILL


def test_children_end_with_a_killed_run(tmp_path: Path) -> None:
    """Nothing stays behind when the test run itself is killed."""
    code = (
        "import pathlib, sys, time\n"
        "from tests.support.processes import Child\n"
        "child = Child(['sh', '-c', 'echo begun; exec sleep 60'], log=pathlib.Path(sys.argv[1]))\n"
        "child.wait_until(lambda: 'begun' in child.output(), 'the program itself')\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        grandchild = os.pidfd_open(int(run.stdout.readline()))
        run.kill()
    with os.fdopen(grandchild) as ended:
        readable, _, _ = select.select([ended], [], [], 5)
        assert readable


def _read_too_early(code: str) -> list[int]:
    """Lines that read what the agent tells of an undone order, of an order for which nobody has waited.

    An order ends in the agent before the portal hears of it. A message for a failure may say whatever is known, and
    that an order isn't undone is known as soon as it is finished.
    """
    tree = ast.parse(code)
    excused = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert | ast.Compare)
        for root in (
            [node.msg]
            if isinstance(node, ast.Assert)
            else [node.left]
            * (isinstance(node.ops[0], ast.Is) and ast.unparse(node.comparators[0]) == "None")
        )
        if root is not None
        for part in ast.walk(root)
    }
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr in {"undone", "unchanged"}
        and isinstance(node.value, ast.Subscript)
        and ast.unparse(node.value.value).endswith("orders")
        and id(node) not in excused
    ]


def test_what_is_told_after_an_orders_end_is_waited_for() -> None:
    early = "undone = portal.orders[CODE].undone\nassert portal.orders[CODE].undone is not None, 'told'"
    assert _read_too_early(early) == [1, 2]
    good = (
        "at = await portal.orders[CODE].until(lambda at: at.undone is not None)\nassert at.undone.error == 'x'\n"
        "assert end == 'finished', portal.orders[CODE].undone\nassert portal.orders[CODE].undone is None"
    )
    assert _read_too_early(good) == []
    paths = [path for path in sorted(TESTS.rglob("*.py")) if "orders[" in path.read_text()]
    assert len(paths) > 10
    found = {str(path): lines for path in paths if (lines := _read_too_early(path.read_text()))}
    assert not found, "wait: await portal.orders[CODE].until(lambda at: at.undone is not None)"
