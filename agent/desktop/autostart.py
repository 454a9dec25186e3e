"""Whether the agent starts when this user logs in, by the desktop's own rules.

An entry in the user's autostart folder (Desktop Application Autostart Specification 0.5) starts the agent with its
interpreter by an absolute path, isolated. A machine-wide entry that a package installed counts, too; it is switched off
for a user by an entry of the same name that says so. The agent itself sees to it that there is never a second one.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from agent.desktop import register as files
from agent.desktop.causes import told

ENTRY_NAME = "inlay-agent.desktop"
_HIDDEN = f"""\
[Desktop Entry]
Type=Application
Name=Inlay
Hidden=true
{files.MARK}
"""


@dataclass(frozen=True, slots=True)
class Status:
    """What was found.

    Attributes:
        on: the agent starts at log-in.
        entry: the entry that counts, or None.
        problem: code, what happened, why, what next; None when all is well.
    """

    on: bool
    entry: str | None
    problem: tuple[str, str, str, str] | None = None


def entry_path() -> Path:
    """Where this user's entry is."""
    return files.config_home() / "autostart" / ENTRY_NAME


def turn_on() -> Status:
    """Have the agent start at log-in, and say how it stands then.

    Raises:
        OSError: the entry can't be written.
    """
    path = entry_path()
    if path.exists() and not files.is_ours(path):
        return status()
    path.parent.mkdir(parents=True, exist_ok=True)
    files.replace_file(path, _text(), 0o644)
    return status()


def turn_off() -> Status:
    """Have the agent start no more at log-in, and say how it stands then.

    Raises:
        OSError: the entry can't be written or removed.
    """
    path = entry_path()
    if path.exists() and not files.is_ours(path):
        return status()
    if _machine_entry() is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.replace_file(path, _HIDDEN, 0o644)
    else:
        path.unlink(missing_ok=True)
    return status()


def status() -> Status:
    """Look at what a session would start, and name what is wrong with it."""
    own = entry_path()
    entry = own if own.is_file() else _machine_entry()
    if entry is None:
        return Status(False, None)
    values = _values(entry)
    if entry == own and not files.is_ours(own):
        return Status(False, str(own), told("autostart_foreign", path=str(own)))
    if values.get("Hidden", "").lower() == "true":
        return Status(False, str(entry))
    program = _program(values.get("Exec", ""))
    if program is None:
        return Status(False, str(entry), told("autostart_broken", entry=str(entry)))
    return Status(True, str(entry))


def repair() -> None:
    """At each start of the agent: mend our own entry when its interpreter has moved; one that is off stays off."""
    path = entry_path()
    if path.is_file() and files.is_ours(path) and path.read_text("utf-8") not in (_text(), _HIDDEN):
        files.replace_file(path, _text(), 0o644)


def _text() -> str:
    return files.filled(ENTRY_NAME, {"@INTERPRETER@": sys.executable})


def _machine_entry() -> Path | None:
    """The machine's entry: the first of the configuration folders that has one."""
    folders = os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg"
    for folder in folders.split(":"):
        candidate = Path(folder) / "autostart" / ENTRY_NAME
        if folder.startswith("/") and candidate.is_file():
            return candidate
    return None


def _values(entry: Path) -> dict[str, str]:
    try:
        lines = entry.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    pairs = (line.partition("=") for line in lines)
    return {name.strip(): value.strip() for name, equals, value in pairs if equals}


def _program(line: str) -> str | None:
    """The program that an Exec line starts, when it is there."""
    try:
        words = shlex.split(line.replace("\\\\", "\\"))
    except ValueError:
        return None
    return shutil.which(words[0].replace("%%", "%")) if words else None
