"""`inlay open -- LINK`: what it refuses, what it hands over, and how little it imports."""

from __future__ import annotations

import os
import pty
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.desktop import paths, register
from protocol.link import build
from tests.agent.desktop.fake_daemon import FakeDaemon

LINK = build("portal.example.com:8443", "A" * 22)
ACCEPTED = {"result": {"accepted": True}}

pytestmark = pytest.mark.usefixtures("throwaway_home", "no_display")


@pytest.fixture
def no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)


@pytest.fixture
def launcher(throwaway_home: Path) -> str:
    register.write_files()
    return str(register.launcher_path())


def run(launcher: str, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [launcher, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        stdin=options.pop("stdin", subprocess.DEVNULL),
        **options,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--",),
        (LINK,),
        ("--", LINK, LINK),
        ("--debug", "--", LINK),
        ("--", LINK, "--json"),
        ("--socket=/tmp/x", LINK),
        ("-c", "import os"),
    ],
)
def test_flags_and_further_arguments_are_refused(launcher: str, arguments: tuple[str, ...]) -> None:
    with FakeDaemon(ACCEPTED) as daemon:
        done = run(launcher, "open", *arguments)
    assert done.returncode == 2
    assert "arguments_refused" in done.stderr
    assert daemon.requests == []


@pytest.mark.parametrize(
    ("link", "cause"),
    [
        ("inlay:portal.example.com/" + "A" * 400, "link_too_long"),
        ("https://portal.example.com/" + "A" * 22, "link_wrong_scheme"),
        ("inlay:portal.example.com", "link_malformed"),
        ("inlay://portal.example.com/" + "A" * 22, "link_malformed"),
        ("inlay:user@portal.example.com/" + "A" * 22, "link_bad_portal"),
        ("inlay:portal.example.com/" + "A" * 21, "link_bad_code"),
        ("--help", "link_wrong_scheme"),
    ],
)
def test_a_link_that_is_none_is_refused_with_cause_and_next_step(
    launcher: str, link: str, cause: str
) -> None:
    with FakeDaemon(ACCEPTED) as daemon:
        done = run(launcher, "open", "--", link)
    assert done.returncode == 1
    assert f"({cause})" in done.stderr
    assert "Why: " in done.stderr
    assert "Next: " in done.stderr
    assert link not in done.stderr
    assert daemon.requests == []


@pytest.mark.parametrize("mode", [0o660, 0o606])
def test_a_socket_open_to_others_gets_no_code(launcher: str, mode: int) -> None:
    with FakeDaemon(ACCEPTED, mode=mode) as daemon:
        done = run(launcher, "open", "--", LINK)
    assert done.returncode == 1
    assert "(socket_unsafe)" in done.stderr
    assert daemon.requests == []


def test_a_folder_open_to_others_gets_no_code(launcher: str) -> None:
    with FakeDaemon(ACCEPTED) as daemon:
        Path(paths.runtime_directory()).chmod(0o750)
        done = run(launcher, "open", "--", LINK)
    assert "(socket_unsafe)" in done.stderr
    assert daemon.requests == []


def test_a_symbolic_link_for_a_folder_gets_no_code(launcher: str, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    os.symlink(elsewhere, paths.runtime_directory())
    done = run(launcher, "open", "--", LINK)
    assert "(socket_unsafe)" in done.stderr


def test_a_refusal_of_the_agent_is_told_in_three_parts(launcher: str) -> None:
    refusal = {
        "error": "portal_unknown",
        "message": "Inlay does not know this portal.",
        "why": "portal.example.com\x1b[2J is not in the trust store.",
        "next_step": "Ask your support.",
    }
    with FakeDaemon({"error": refusal}):
        done = run(launcher, "open", "--", LINK)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "inlay: Inlay does not know this portal.",
        "  Why: portal.example.com?[2J is not in the trust store.",
        "  Next: Ask your support.",
        "  (portal_unknown)",
    ]


def test_an_answer_that_is_none_is_named(launcher: str) -> None:
    with FakeDaemon(lambda _request: {"error": "not an object"}):
        done = run(launcher, "open", "--", LINK)
    assert "(answer_malformed)" in done.stderr


def test_the_link_and_the_allowed_environment_arrive_and_nothing_else(launcher: str) -> None:
    environment = os.environ | {
        "DISPLAY": ":77",
        "XDG_ACTIVATION_TOKEN": 'quote" and ü',
        "DESKTOP_STARTUP_ID": "line\nbreak",
        "LANG": "C.UTF-8",
        "SECRET_TOKEN": "x",
        "LD_LIBRARY_PATH": "/snap",
    }
    with FakeDaemon(ACCEPTED) as daemon:
        done = run(launcher, "open", "--", LINK, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (request,) = daemon.requests
    assert request["method"] == "open"
    assert request["params"]["link"] == LINK
    handed = request["params"]["environment"]
    assert set(handed) <= set(paths.ENVIRONMENT_ALLOWED)
    assert handed["DISPLAY"] == ":77"
    assert handed["XDG_ACTIVATION_TOKEN"] == 'quote" and ü'
    assert "DESKTOP_STARTUP_ID" not in handed
    assert daemon.descriptors == []


def test_a_terminal_is_handed_over_and_the_command_waits_while_it_is_used(launcher: str) -> None:
    ours, theirs = pty.openpty()
    try:
        with FakeDaemon({"result": {"hold": True}}) as daemon:
            process = subprocess.Popen([launcher, "open", "--", LINK], stdin=theirs)
            while not daemon.descriptors:
                assert process.poll() is None
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.3)
            assert os.fstat(daemon.descriptors[0]).st_rdev == os.fstat(theirs).st_rdev
            daemon.after_hold.set()
            assert process.wait(20) == 0
    finally:
        os.close(ours)
        os.close(theirs)


def test_hostile_modules_in_the_working_directory_and_pythonpath_are_not_imported(
    launcher: str, tmp_path: Path
) -> None:
    hostile = tmp_path / "downloads"
    hostile.mkdir()
    marker = tmp_path / "imported"
    trap = f"open({str(marker)!r}, 'a').write(__name__)\n"
    for package in ("agent", "protocol"):
        (hostile / package).mkdir()
        (hostile / package / "__init__.py").write_text(trap)
    for module in ("json", "_json", "socket", "os", "sitecustomize", "usercustomize", "encodings"):
        (hostile / f"{module}.py").write_text(trap)
    environment = os.environ | {"PYTHONPATH": str(hostile), "PYTHONSTARTUP": str(hostile / "json.py")}
    with FakeDaemon(ACCEPTED) as daemon:
        done = run(launcher, "open", "--", LINK, cwd=hostile, env=environment)
        refused = run(launcher, "open", "--", "nonsense", cwd=hostile, env=environment)
    assert done.returncode == 0, done.stderr
    assert refused.returncode == 1
    assert len(daemon.requests) == 1
    assert not marker.exists()


def test_an_interpreter_in_a_folder_with_a_space_is_started_isolated_too(
    launcher: str, tmp_path: Path
) -> None:
    folder = tmp_path / "with space"
    folder.mkdir()
    wrapper = folder / "python"
    wrapper.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    wrapper.chmod(0o755)
    program = tmp_path / "inlay"
    program.write_text(register.launcher_text(str(wrapper)))
    program.chmod(0o755)
    (tmp_path / "agent").mkdir()
    with FakeDaemon(ACCEPTED) as daemon:
        done = run(
            str(program), "open", "--", LINK, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)}
        )
    assert done.returncode == 0, done.stderr
    assert len(daemon.requests) == 1


def test_opening_a_link_imports_next_to_nothing() -> None:
    program = (
        "import sys; before = set(sys.modules); sys.argv = ['inlay', 'open', '--', sys.argv[1]]\n"
        "from agent.desktop.link_handler import main\n"
        "status = main()\n"
        "print(*sorted(set(sys.modules) - before))\n"
        "raise SystemExit(status)"
    )
    with FakeDaemon(ACCEPTED):
        done = run(sys.executable, "-I", "-c", program, LINK)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == {
        "__future__",
        "_json",
        "_socket",
        "agent",
        "agent.desktop",
        "agent.desktop.agent_socket",
        "agent.desktop.link_handler",
        "agent.desktop.paths",
        "protocol",
        "protocol.link",
    }


def test_opening_a_link_takes_at_most_twice_a_bare_interpreter(launcher: str) -> None:
    opened, bare = [], []
    with FakeDaemon(ACCEPTED):
        for _ in range(15):  # alternated, so that both meet the same machine
            opened.append(seconds_of([launcher, "open", "--", LINK]))
            bare.append(seconds_of([sys.executable, "-c", "pass"]))
    ratio = statistics.median(opened) / statistics.median(bare)
    assert ratio <= 2, f"{ratio:.2f} x {statistics.median(bare) * 1000:.1f} ms"


def seconds_of(command: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return time.perf_counter() - begin


def test_an_unknown_command_shows_the_usage(launcher: str) -> None:
    done = run(launcher, "format-disk")
    assert done.returncode == 2
    assert "usage: inlay" in done.stderr
    assert run(launcher, "--help").stdout.startswith("usage: inlay")
