"""What the parts of the configuration have in common: its error, its texts, and files with secrets."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
_MOST: Final = 256


class ConfigError(Exception):
    """The configuration can't be used.

    Attributes:
        where: the file, and the place in it.
        problem: what is wrong there.
    """

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(where, problem)
        self.where = where
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}"


def secret_in(path: Path) -> bytes:
    """What a file holds that nobody but its owner may read: at most 256 bytes, without white space around them.

    Raises:
        ConfigError: it can't be read, or others may.
    """
    try:
        with path.open("rb") as stream:
            if os.fstat(stream.fileno()).st_mode & 0o077:
                raise ConfigError(f"{path}", "nobody but its owner may have access to it (chmod 600)")
            return stream.read(_MOST).strip()
    except OSError as error:
        raise ConfigError(f"{path}", error.strerror or "can't be read") from None
