"""``inlay-portal audit`` on a database that somebody has written to."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING

import pytest

from portal.__main__ import main

if TYPE_CHECKING:
    from pathlib import Path


class Portal:
    """A portal with a few rows in its log, and its command."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        (folder / "passphrase").write_text("a passphrase for throw-away keys\n")
        (folder / "password").write_text("correct horse battery\n")
        content = {
            "origin": "https://localhost:8443",
            "name": "Example portal",
            "database": "sqlite+aiosqlite:///portal.db",
            "key_file": "keys/portal.keys",
            "passphrase_file": "passphrase",
        }
        (folder / "portal.json").write_text(json.dumps(content))
        self.run("init")
        for name in ("ada", "bea", "eve"):
            self.run(
                "user",
                "add",
                f"{name}@example.org",
                "--name",
                name,
                "--password-file",
                str(folder / "password"),
            )

    def run(self, *arguments: str, code: int = 0) -> str:
        """The command's output, when it ends with this code."""
        assert main(["--config", str(self.folder / "portal.json"), *arguments]) == code
        captured = self._capsys.readouterr()
        return captured.out + captured.err

    def sql(self, statement: str) -> None:
        """What somebody with access to the file does."""
        database = sqlite3.connect(self.folder / "portal.db")
        with database:
            database.execute(statement)
        database.close()

    @property
    def rows(self) -> int:
        """How many rows the log has."""
        database = sqlite3.connect(self.folder / "portal.db")
        ((count,),) = database.execute("SELECT count(*) FROM audit")
        database.close()
        return int(count)


@pytest.fixture
def portal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Portal:
    """A portal of three users."""
    return Portal(tmp_path, capsys)


def test_verify_tells_every_row(portal: Portal) -> None:
    """What was done, on a line each; nothing is signed while it is so, and verifying writes nothing."""
    rows = portal.rows
    assert portal.run("audit", "verify").startswith(f"{rows} rows, unbroken; 0 signed heads fit (")
    portal.sql("UPDATE audit SET actor = 'nobody' WHERE number = 1")
    portal.sql(f"DELETE FROM audit WHERE number = {rows - 1}")  # noqa: S608  # a number of our own
    told = portal.run("audit", "verify", code=1)
    assert told.splitlines() == ["row 1: changed", f"row {rows - 1}: removed"]
    assert portal.run("audit", "head", code=1).startswith("inlay-portal: the audit log was changed")
    assert not (portal.folder / "keys" / "audit-heads").exists()
    assert portal.rows == rows - 1


def test_an_end_cut_off_is_told_by_an_exported_head(portal: Portal) -> None:
    """With the head row made to fit; the head may be kept anywhere."""
    heads = str(portal.folder / "elsewhere")
    rows = portal.rows
    portal.run("audit", "head", "--heads", heads)
    portal.sql(f"DELETE FROM audit WHERE number = {rows}")  # noqa: S608  # a number of our own
    portal.sql(
        "UPDATE audit_head SET number = number - 1, hash = (SELECT hash FROM audit ORDER BY number DESC LIMIT 1)"
    )
    assert "unbroken" in portal.run("audit", "verify")
    told = portal.run("audit", "verify", "--heads", heads, code=1)
    assert told.startswith(f"row {rows}: removed (a head signed ")


def test_heads_that_are_none(portal: Portal) -> None:
    """Each line that this portal didn't sign is named."""
    portal.run("audit", "head")
    file = portal.folder / "keys" / "audit-heads"
    file.write_text(file.read_text() + "nonsense\n")
    assert portal.run("audit", "verify", code=1) == f"{file}, line 2: not a head that this portal signed\n"


def test_verify_where_the_end_is_gone(portal: Portal) -> None:
    """A log whose head row was taken away is told of as well."""
    portal.sql("DELETE FROM audit_head")
    assert "the log's end was changed (there is none)" in portal.run("audit", "verify", code=1)
