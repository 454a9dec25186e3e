"""Who opens `inlay:` links for this user: register, unregister, status, and the check at each start.

Linux, by the freedesktop rules: a desktop entry that names the scheme, and the user's default for it.
The entry found by `status` may also be a machine-wide one that a package installed.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from agent.desktop import register as files
from agent.desktop.causes import told

SCHEME_TYPE = "x-scheme-handler/inlay"
TOOL_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Problem:
    """Why links don't open Inlay, and what to do about it.

    Attributes:
        code: of `agent.desktop.causes`: ``link_…``.
        happened: one sentence.
        why: one sentence.
        next_step: what to do now.
    """

    code: str
    happened: str
    why: str
    next_step: str


@dataclass(frozen=True, slots=True)
class Status:
    """What was found.

    Attributes:
        entry: path of the desktop entry that counts, or None.
        default: the desktop entry that the system starts for the scheme, or None.
        problem: the first thing that is wrong, or None.
    """

    entry: str | None
    default: str | None
    problem: Problem | None

    @property
    def working(self) -> bool:
        """Whether links open Inlay."""
        return self.problem is None

    def as_json(self) -> dict[str, object]:
        """The same as a JSON object."""
        found: dict[str, object] = {"working": self.working, "entry": self.entry, "default": self.default}
        if self.problem is not None:
            found |= {
                "error": self.problem.code,
                "why": self.problem.why,
                "next_step": self.problem.next_step,
            }
        return found


def register() -> Status:
    """Write launcher and entries for this user, make ours the default, and say how it stands then.

    Raises:
        OSError: a file can't be written.
    """
    files.write_files()
    _refresh_database()
    if shutil.which("xdg-mime"):
        _config_folders_exist()
        _tool("xdg-mime", "default", files.ENTRY_NAME, SCHEME_TYPE)
    return status()


def unregister() -> list[str]:
    """Remove all of it; returns the paths that were removed or changed.

    Raises:
        OSError: a file can't be removed.
    """
    removed = files.remove_files()
    for lists in (files.config_home() / "mimeapps.list", files.entry_path("mimeapps.list")):
        if _forget_default(lists):
            removed.append(lists)
    _refresh_database()
    return [str(path) for path in removed]


def check_and_repair() -> Status:
    """The check at each start of the agent: mends our own entry, takes nothing from anybody.

    An entry that isn't there stays away (it may have been unregistered on purpose), and another
    program that is the default stays it; both are said in the status.
    """
    found = status()
    mendable = ("link_entry_outdated", "link_launcher_missing", "link_interpreter_missing")
    if found.problem is None or found.problem.code not in mendable or not files.is_ours(files.entry_path()):
        return found
    files.write_files()
    _refresh_database()
    return status()


def status() -> Status:
    """Look at everything between a click and the agent, and name the first thing that is wrong."""
    entry = _find_entry()
    default = _default()
    return Status(str(entry) if entry else None, default, _problem(entry, default))


def _problem(entry: Path | None, default: str | None) -> Problem | None:
    if entry is None:
        return Problem(*told("link_entry_missing"))
    wrong = _entry_problem(entry)
    if wrong is not None:
        return wrong
    if not shutil.which("xdg-mime"):
        return Problem(*told("link_tools_missing"))
    if default is None:
        return Problem(*told("link_no_default"))
    if default != files.ENTRY_NAME:
        return Problem(*told("link_other_default", program=default))
    return None


def _entry_problem(entry: Path) -> Problem | None:
    """What is wrong with the entry itself and what it starts."""
    program = _program(entry)
    if program is None or not os.access(program, os.X_OK):
        return Problem(*told("link_launcher_missing", entry=str(entry)))
    interpreter = _interpreter(program)
    if interpreter is not None and not os.access(interpreter, os.X_OK):
        return Problem(*told("link_interpreter_missing", program=program, interpreter=interpreter))
    if files.is_ours(entry):
        outdated = [path for path, (text, _) in files.expected_files().items() if not _holds(path, text)]
        if outdated:
            return Problem(*told("link_entry_outdated", path=str(outdated[0])))
    return None


def _find_entry() -> Path | None:
    """The entry that counts: the user's own, else the first of the machine's data folders."""
    shared = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    folders = [files.data_home(), *(Path(folder) for folder in shared.split(":") if folder.startswith("/"))]
    for folder in folders:
        candidate = folder / "applications" / files.ENTRY_NAME
        if candidate.is_file():
            return candidate
    return None


def _program(entry: Path) -> str | None:
    """The program that an entry's Exec line starts."""
    for line in _lines(entry):
        if line.startswith("Exec="):
            try:
                words = shlex.split(line.removeprefix("Exec=").replace("\\\\", "\\"))
            except ValueError:
                return None
            return shutil.which(words[0].replace("%%", "%")) if words else None
    return None


def _interpreter(program: str) -> str | None:
    """The interpreter of our launcher; None for a program without a first line that names one."""
    lines = _lines(Path(program))
    if not lines or not lines[0].startswith("#!"):
        return None
    if lines[0] == "#!/bin/sh" and len(lines) > 1 and lines[1].startswith("exec "):
        return shlex.split(lines[1])[1]
    return lines[0][2:].split()[0]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_text("utf-8") == text
    except (OSError, UnicodeDecodeError):
        return False


def _default() -> str | None:
    """The desktop entry that the system starts for the scheme, by its own tool."""
    if not shutil.which("xdg-mime"):
        return None
    return _tool("xdg-mime", "query", "default", SCHEME_TYPE).strip() or None


def _config_folders_exist() -> None:
    """xdg-mime writes into the configuration folder and does not make it."""
    files.config_home().mkdir(parents=True, exist_ok=True)


def _refresh_database() -> None:
    folder = files.entry_path().parent
    if folder.is_dir() and shutil.which("update-desktop-database"):
        _tool("update-desktop-database", str(folder))


def _tool(*command: str) -> str:
    """Run one of the desktop's own tools; its output, or nothing when it fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TOOL_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _forget_default(lists: Path) -> bool:
    """Take our entry out of a mimeapps.list, leaving every other line as it is."""
    lines = _lines(lists)
    kept = [line for line in (_without_ours(line) for line in lines) if line is not None]
    if kept == lines:
        return False
    files.replace_file(lists, "".join(line + "\n" for line in kept), lists.stat().st_mode & 0o777)
    return True


def _without_ours(line: str) -> str | None:
    name, equals, value = line.partition("=")
    if name.strip() != SCHEME_TYPE or not equals:
        return line
    entries = [entry for entry in value.split(";") if entry.strip() and entry.strip() != files.ENTRY_NAME]
    if len(entries) == len([entry for entry in value.split(";") if entry.strip()]):
        return line
    return f"{name}={';'.join(entries)};" if entries else None
