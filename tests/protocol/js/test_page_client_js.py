"""The page's client, in JavaScript, by Node's own test runner."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

_FOLDER = Path(__file__).resolve().parent


@pytest.mark.interop
@pytest.mark.parametrize("name", sorted(path.name for path in _FOLDER.glob("*.test.mjs")))
def test_node_runs_the_page_clients_tests(name: str) -> None:
    node = shutil.which("node") or shutil.which("nodejs")
    assert node is not None, "the package nodejs is missing"
    done = subprocess.run([node, "--test", _FOLDER / name], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout[-4000:]
