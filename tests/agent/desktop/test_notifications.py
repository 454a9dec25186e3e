"""Notifications outside any window: at most three a minute."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.desktop.notify import DesktopNotifier
from agent.ports import UserEnvironment
from protocol.errors import InlayError

ERROR = InlayError("portal_unknown", portal="portal.example.net<b>")
SESSION = UserEnvironment({"DBUS_SESSION_BUS_ADDRESS": "unix:path=/nowhere"})


@pytest.fixture
def tool(tmp_path: Path) -> Path:
    """Stands for the desktop's own tool: writes down what it is told."""
    path = tmp_path / "notify-send"
    path.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >> {tmp_path}/shown\n')
    path.chmod(0o755)
    return path


def shown(tool: Path) -> list[str]:
    record = tool.parent / "shown"
    return record.read_text().splitlines() if record.exists() else []


async def test_without_a_session_bus_or_a_tool_nothing_is_shown(tool: Path, tmp_path: Path) -> None:
    assert not await DesktopNotifier(tool=str(tool)).notify(ERROR, UserEnvironment({}))
    assert not await DesktopNotifier(tool=str(tmp_path / "none")).notify(ERROR, SESSION)
    assert shown(tool) == []


async def test_a_failing_tool_is_not_a_notification() -> None:
    assert not await DesktopNotifier(tool="/bin/false").notify(ERROR, SESSION)


async def test_the_fourth_within_a_minute_is_held_back(tool: Path) -> None:
    now = 0.0
    notifier = DesktopNotifier(tool=str(tool), clock=lambda: now)
    results = []
    for now in (0.0, 1.0, 2.0, 59.9, 60.1, 60.2):  # noqa: B007 (the clock reads it)
        results.append(await notifier.notify(ERROR, SESSION))
    assert results == [True, True, True, False, True, False]
    assert len(shown(tool)) == 4


async def test_foreign_text_is_no_markup_and_no_option(tool: Path) -> None:
    assert await DesktopNotifier(tool=str(tool)).notify(ERROR, SESSION)
    (line,) = shown(tool)
    assert "--app-name=Inlay" in line
    assert "-- Inlay does not know this portal." in line
    assert "<b>" not in line
