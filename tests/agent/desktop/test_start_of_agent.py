"""Starting the daemon when nobody listens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from protocol.link import build

LINK = build("portal.example.com", "A" * 22)

AGENT = """
import json, os, socket, sys, time
from agent.desktop import paths
{first}
folder = paths.prepare_runtime_directory()
listener = socket.socket(socket.AF_UNIX)
os.umask(0o177)
listener.bind(paths.socket_path())
listener.listen()
ready = int(sys.argv[sys.argv.index("--ready-fd") + 1])
os.write(ready, b"ready\\n")
os.close(ready)
connection, _ = listener.accept()
with open({record!r}, "w") as file:
    json.dump({{"argv": sys.argv, "environment": dict(os.environ), "cwd": os.getcwd(),
               "leader": os.getsid(0) == os.getpid(), "request": connection.recv(65536).decode()}}, file)
connection.sendall(b'{{"result":{{}}}}\\n')
"""


def open_link(tmp_path: Path, first: str = "") -> subprocess.CompletedProcess[str]:
    """Run `inlay open` with an interpreter that starts a small agent instead of the whole one.

    Args:
        tmp_path: a folder of the test's own.
        first: what that agent does before it listens.
    """
    record = tmp_path / "record.json"
    small = tmp_path / "small_agent.py"
    small.write_text(AGENT.format(first=first, record=str(record)))
    interpreter = tmp_path / "python"
    interpreter.write_text(f'#!/bin/sh\nshift 3  # -I -m agent\nexec {sys.executable} -I {small} "$@"\n')
    interpreter.chmod(0o755)
    program = textwrap.dedent(
        f"""
        import sys
        sys.executable = {str(interpreter)!r}
        sys.argv = ["inlay", "open", "--", {LINK!r}]
        from agent.desktop import agent_socket
        from agent.desktop.link_handler import main
        agent_socket.START_SECONDS = 2
        raise SystemExit(main())
        """
    )
    environment = {
        name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")
    }
    return subprocess.run(
        [sys.executable, "-I", "-c", program],
        env=environment | {"LD_LIBRARY_PATH": "/snap/lib", "SECRET_TOKEN": "x"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.usefixtures("throwaway_home")
def test_an_agent_that_ends_at_once_is_named_with_its_status(tmp_path: Path) -> None:
    done = open_link(tmp_path, "sys.exit(9)")
    assert done.returncode == 1
    assert "(agent_not_started)" in done.stderr
    assert "exit status 9" in done.stderr


CLOSES_THE_PIPE = "os.close(int(sys.argv[sys.argv.index('--ready-fd') + 1]))"


@pytest.mark.usefixtures("throwaway_home")
@pytest.mark.parametrize("first", ["time.sleep(60)", CLOSES_THE_PIPE + "; time.sleep(60)"])
def test_an_agent_that_never_listens_is_ended_and_said(tmp_path: Path, first: str) -> None:
    done = open_link(tmp_path, first)
    assert done.returncode == 1
    assert "(agent_not_listening)" in done.stderr


@pytest.mark.usefixtures("throwaway_home")
def test_the_agent_is_started_detached_and_gets_the_link_when_it_listens(tmp_path: Path) -> None:
    done = open_link(tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["leader"]
    assert record["cwd"] == "/"
    assert json.loads(record["request"])["params"]["link"] == LINK
    assert not {"LD_LIBRARY_PATH", "SECRET_TOKEN", "DISPLAY"} & set(record["environment"])
    assert record["environment"]["HOME"] == os.environ["HOME"]
