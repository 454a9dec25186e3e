"""The files by which a desktop finds Inlay: launcher, desktop entries, icon; written and removed.

The launcher names its interpreter by an absolute path and starts it isolated (`-I`): neither the
working directory (a browser's download folder, say) nor PYTHONPATH can put another `agent`,
`protocol` or `json` in front of ours.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import tempfile
from pathlib import Path

ENTRY_NAME = "inlay.desktop"
CODE_ENTRY_NAME = "inlay-code.desktop"
CARDS_ENTRY_NAME = "inlay-cards.desktop"
ENTRY_NAMES = (ENTRY_NAME, CODE_ENTRY_NAME, CARDS_ENTRY_NAME)
MARK = "X-Inlay-Managed=true"
"""Stands in the entries that we wrote, so that no other is ever overwritten or removed."""

_SHEBANG_LIMIT = 120
"""Bytes of a first line that every kernel in use passes on whole."""

_START = "from agent.desktop.link_handler import main\n\nraise SystemExit(main())\n"


def data_home() -> Path:
    """``$XDG_DATA_HOME``, or ``~/.local/share`` (XDG Base Directory Specification)."""
    return _base("XDG_DATA_HOME", ".local/share")


def config_home() -> Path:
    """``$XDG_CONFIG_HOME``, or ``~/.config``."""
    return _base("XDG_CONFIG_HOME", ".config")


def launcher_path() -> Path:
    """Where this user's launcher is."""
    return data_home() / "inlay" / "bin" / "inlay"


def entry_path(name: str = ENTRY_NAME) -> Path:
    """Where this user's desktop entry is."""
    return data_home() / "applications" / name


def icon_path() -> Path:
    """Where this user's icon is."""
    return data_home() / "icons" / "hicolor" / "scalable" / "apps" / "inlay.svg"


def expected_files() -> dict[Path, tuple[str, int]]:
    """All files of a registration: path → content and mode."""
    files = {
        launcher_path(): (launcher_text(sys.executable), 0o755),
        icon_path(): ((_templates() / "inlay.svg").read_text("utf-8"), 0o644),
    }
    for name in ENTRY_NAMES:
        files[entry_path(name)] = (filled(name, {}), 0o644)
    return files


def filled(name: str, programs: dict[str, str]) -> str:
    """A desktop entry from its template, with our mark.

    Args:
        name: the template.
        programs: further placeholders of its Exec line, and the words that they stand for.
    """
    values = {
        "@EXEC@": _quoted_for_exec(str(launcher_path())),
        "@LAUNCHER@": _escaped(str(launcher_path())),
        "@ICON@": _escaped(str(icon_path())),
        **{placeholder: _quoted_for_exec(word) for placeholder, word in programs.items()},
    }
    text = (_templates() / name).read_text("utf-8")
    for placeholder, value in values.items():
        text = text.replace(placeholder, value)
    return text.rstrip("\n") + f"\n{MARK}\n"


def launcher_text(interpreter: str) -> str:
    """The launcher: an isolated interpreter by its absolute path.

    Args:
        interpreter: absolute path; one that a first line can't hold is started through the shell.
    """
    first = f"#!{interpreter} -I\n"
    if " " not in interpreter and "\t" not in interpreter and len(os.fsencode(first)) <= _SHEBANG_LIMIT:
        return first + _START
    return f'#!/bin/sh\nexec {shlex.quote(interpreter)} -I -m agent.desktop.link_handler "$@"\n'


def write_files() -> list[Path]:
    """Write what is missing or differs; returns the paths that were written.

    Raises:
        OSError: a folder or file can't be written.
    """
    written = []
    for path, (text, mode) in expected_files().items():
        if _is_current(path, text, mode):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, text, mode)
        written.append(path)
    return written


def remove_files() -> list[Path]:
    """Remove all that `write_files` writes, and the folders it alone used.

    An entry without our mark is somebody else's and stays.
    """
    removed = []
    for path in expected_files():
        if path.suffix == ".desktop" and not is_ours(path):
            continue
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
            removed.append(path)
    for folder in (launcher_path().parent, launcher_path().parent.parent):
        with contextlib.suppress(OSError):
            folder.rmdir()  # only when nothing else is in it
    return removed


def is_ours(entry: Path) -> bool:
    """Whether a desktop entry is one that we wrote."""
    try:
        return MARK in entry.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return False


def replace_file(path: Path, text: str, mode: int) -> None:
    """Write a file so that a reader sees the old one or the new one, whole."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _is_current(path: Path, text: str, mode: int) -> bool:
    try:
        return path.read_text("utf-8") == text and path.stat().st_mode & 0o777 == mode
    except (OSError, UnicodeDecodeError):
        return False


def _templates() -> Path:
    """The templates: inside the package when installed, in packaging/ in a checkout."""
    installed = Path(__file__).parent / "linux"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "packaging" / "linux"


def _base(variable: str, default: str) -> Path:
    value = os.environ.get(variable, "")
    return Path(value) if value.startswith("/") else Path.home() / default


def _escaped(value: str) -> str:
    """A value of type string (Desktop Entry Specification 1.5, section 4)."""
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")


def _quoted_for_exec(argument: str) -> str:
    """One argument of an Exec line (section 7): quoted, then escaped as any string."""
    quoted = argument
    for character in '\\"`$':
        quoted = quoted.replace(character, "\\" + character)
    if any(character in " \t\n'><~|&;*?#()" or character in '\\"`$' for character in argument):
        quoted = f'"{quoted}"'
    return _escaped(quoted.replace("%", "%%"))
