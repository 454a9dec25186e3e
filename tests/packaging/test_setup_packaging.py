"""Set-up installs pinned packages from wherever pip is told, and the lists say why each is there."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGING = ROOT / "packaging"
PINNED = sorted((PACKAGING / "requirements").glob("*.txt"))
DEBIAN = sorted(PACKAGING.glob("debian-packages-*.txt"))


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=\[ ]", line, maxsplit=1)[0].lower() for line in requirements}


def _pins(name: str) -> dict[str, str]:
    text = (PACKAGING / "requirements" / f"{name}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))


@pytest.mark.parametrize("file", PINNED, ids=lambda file: file.stem)
def test_every_pin_has_a_hash_and_no_place(file: Path) -> None:
    """A line is a pin with a hash, or a hash: no option, no address."""
    lines = [line.strip().removesuffix(" \\") for line in file.read_text().splitlines()]
    assert lines
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith("--hash=sha256:"):
            assert re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", line)
        elif line and not line.startswith("#"):
            assert re.match(r"^[a-z0-9.-]+==[^ ;]+( ; .+)?$", line), line
            assert following.startswith("--hash=")


def test_pins_cover_the_project() -> None:
    """What pyproject.toml asks for is pinned."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    run = project["project"]["dependencies"] + project["project"]["optional-dependencies"]["portal"]
    run += groups["demo"]
    assert _names(run) <= _pins("run").keys()
    assert _names(groups["test"] + groups["lint"]) <= _pins("test").keys()
    assert _names(project["build-system"]["requires"]) <= _pins("build").keys()


def test_pins_agree() -> None:
    """A package in two files has one version, whichever is installed last."""
    build, run, test = _pins("build"), _pins("run"), _pins("test")
    for one, other in ((build, run), (run, test), (build, test)):
        assert {name: one[name] for name in one.keys() & other.keys()} == {
            name: other[name] for name in one.keys() & other.keys()
        }


@pytest.mark.parametrize("file", DEBIAN, ids=lambda file: file.stem)
def test_each_debian_package_has_its_reason(file: Path) -> None:
    """A name, perhaps a distribution, and why."""
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    for line in lines:
        assert re.fullmatch(r"[a-z0-9.+-]+ +(\[debian\] +)?# \S.*", line), line


def test_dependencies_document_names_each() -> None:
    """docs/dependencies.md says why for every direct dependency."""
    text = (ROOT / "docs" / "dependencies.md").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = _names(
        project["project"]["dependencies"] + project["project"]["optional-dependencies"]["portal"]
    )
    for group in project["dependency-groups"].values():
        wanted |= _names(group)
    wanted |= _names([line for line in _build_in() if not line.startswith("#")])
    for file in DEBIAN:
        wanted |= {line.split()[0] for line in file.read_text().splitlines() if not line.startswith("#")}
    assert {name for name in wanted if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text)} == set()


def _build_in() -> list[str]:
    return (PACKAGING / "requirements" / "build.in").read_text().splitlines()


def test_unknown_level_is_refused() -> None:
    """A mistyped level installs nothing."""
    done = subprocess.run([PACKAGING / "setup", "prod"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "run|test" in done.stderr
