"""The run's temporary files: in memory while it runs, kept where it failed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support import isolation, memory_files


def _file_system(path: Path) -> str:
    """The type of the file system that holds a path."""
    shown = subprocess.run(["stat", "-f", "-c", "%T", path], capture_output=True, text=True, check=True)
    return shown.stdout.strip()


def test_files_of_tests_and_their_programs_are_in_memory(tmp_path: Path) -> None:
    if not isolation.entered():
        pytest.skip("needs namespaces of its own")
    assert _file_system(tmp_path) == "tmpfs"
    asked = [sys.executable, "-c", "import tempfile; print(tempfile.gettempdir())"]
    told = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    assert told.strip() == tempfile.gettempdir() == os.environ["TMPDIR"]
    assert Path(told.strip()).parent == memory_files.MOUNT


def test_what_a_failed_run_left_is_kept_but_for_what_is_no_file(tmp_path: Path) -> None:
    left, where = tmp_path / "left", tmp_path / "where"
    (left / "deep").mkdir(parents=True)
    where.mkdir()
    (left / "deep/agent.log").write_text("said")
    (left / "link").symlink_to("/etc/passwd")
    os.mkfifo(left / "pipe")
    with socket.socket(socket.AF_UNIX) as listening, open(left / "large", "wb") as large:
        listening.bind(str(left / "socket"))
        large.truncate(memory_files.KEPT_BYTES + 1)
        kept = memory_files.keep(left, where)
    assert kept.parent == where
    assert {str(path.relative_to(kept)) for path in kept.rglob("*")} == {"deep", "deep/agent.log"}
    assert (kept / "deep/agent.log").read_text() == "said"
