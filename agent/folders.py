"""Where the agent keeps what. Little is imported here: a command looks at the folders, too, when no agent starts.

Folders follow the XDG base directory specification through platformdirs; nothing but the XDG variables moves
them. The administrator's folder is a constant: no variable, link or order can point to another.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import platformdirs

from agent.desktop.paths import UnsafePath, check_not_others

APPLICATION: Final = "inlay"
MACHINE_FOLDER: Final = Path("/etc/inlay")
"""Trust entries and policy of the whole machine; counts only what belongs to root and only root may write."""


class Folders(NamedTuple):
    """The agent's folders; each is the user's alone.

    Attributes:
        config: what the user decided (trust entries).
        state: journal, cards, device key, logs.
        machine: the administrator's.
    """

    config: Path
    state: Path
    machine: Path = MACHINE_FOLDER

    @property
    def journal(self) -> Path:
        """The journal's SQLite file."""
        return self.state / "journal.sqlite"

    @property
    def log(self) -> Path:
        """The log file."""
        return self.state / "log" / "agent.log"


def user_folders() -> Folders:
    """The folders of this user, made with rights 0700 when missing.

    Raises:
        UnsafePath: one is no folder, or the state's is another user's, or others may write to it.
        OSError: one can't be made.
    """
    folders = Folders(
        Path(platformdirs.user_config_dir(APPLICATION)), Path(platformdirs.user_state_dir(APPLICATION))
    )
    for folder in (folders.config, folders.state):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except FileExistsError:
            raise UnsafePath(str(folder), "type") from None
    check_not_others(str(folders.state))
    return folders
