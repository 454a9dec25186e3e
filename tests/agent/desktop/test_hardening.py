"""A process that sees a PIN leaves no core file and can't be looked into."""

from __future__ import annotations

import subprocess
import sys


def test_a_hardened_process_is_not_dumpable() -> None:
    program = (
        "import ctypes, resource\n"
        "from agent.desktop.hardening import forbid_dumps\n"
        "library = ctypes.CDLL(None)\n"
        "before = library.prctl(3, 0, 0, 0, 0)\n"  # PR_GET_DUMPABLE
        "forbid_dumps()\n"
        "print(before, library.prctl(3, 0, 0, 0, 0), *resource.getrlimit(resource.RLIMIT_CORE))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "0", "0", "0"]


def test_the_daemon_side_hardens_itself_before_it_opens_any_window() -> None:
    program = (
        "import ctypes\n"
        "from agent.desktop.dialog_process import Windows\n"
        "Windows()\n"
        "print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"
