"""Fixtures for every test, and the rules of a run: isolated, bounded, nothing skipped unnoticed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from tests.support import isolation, loop_watch, memory_files, shared_run
from tests.support.certificates import ThrowAwayCA
from tests.support.display import VirtualDisplay
from tests.support.pcscd import PrivatePcscd
from tests.support.skips import SkipRule

if TYPE_CHECKING:
    from collections.abc import Iterator

STARTED_BY_ROOT = os.geteuid() == 0  # in a user namespace everybody is root afterwards
WITHOUT_NAMESPACES = ""
try:
    isolation.enter()
    memory_files.use()
except isolation.IsolationError as refused:
    WITHOUT_NAMESPACES = f"needs namespaces of its own: {refused}"
loop_watch.install()

hypothesis.settings.register_profile("bounded", deadline=None, max_examples=100, derandomize=True)
hypothesis.settings.register_profile("search", deadline=None, max_examples=5000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "bounded"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """A run can be shared by several processes."""
    shared_run.add_option(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Judge skips in every run."""
    config.pluginmanager.register(SkipRule(strict=STARTED_BY_ROOT))
    if not WITHOUT_NAMESPACES:
        config.pluginmanager.register(memory_files.KeptFiles())
    if folder := config.getoption("--share"):
        config.pluginmanager.register(shared_run.SharedRun(folder))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests that meet the machine's own services run in the run's namespaces or not at all."""
    needs = {mark.name for mark in item.iter_markers()} & {"interop", "browser"}
    if needs and WITHOUT_NAMESPACES:
        pytest.skip(WITHOUT_NAMESPACES)


@pytest.fixture(autouse=True)
def event_loop_not_blocked() -> Iterator[None]:
    """A step that blocks an event loop fails the test in which it ran."""
    loop_watch.take()
    yield
    blocked = loop_watch.take()
    assert not blocked, f"blocked an event loop for over {loop_watch.LIMIT_SECONDS} s: {blocked}"


@pytest.fixture(scope="session")
def pcscd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivatePcscd]:
    """A private pcscd with eight virtual slots, started once for the test run."""
    with PrivatePcscd(tmp_path_factory.mktemp("pcscd")) as running:
        yield running


@pytest.fixture(scope="session")
def xvfb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualDisplay]:
    """A screen with a window manager, started once for the test run."""
    with VirtualDisplay(tmp_path_factory.mktemp("xvfb")) as running:
        yield running


@pytest.fixture(scope="session")
def https_ca(tmp_path_factory: pytest.TempPathFactory) -> ThrowAwayCA:
    """A throw-away CA with a server certificate for portal.test, other.test and loopback."""
    return ThrowAwayCA(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def throwaway_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home that HOME and the XDG folders of this process (and its children) point to."""
    home = tmp_path / "home"
    for variable, folder in {
        "XDG_CONFIG_HOME": ".config",
        "XDG_DATA_HOME": ".local/share",
        "XDG_STATE_HOME": ".local/state",
        "XDG_CACHE_HOME": ".cache",
    }.items():
        (home / folder).mkdir(parents=True)
        monkeypatch.setenv(variable, str(home / folder))
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setenv("HOME", str(home))
    return home
