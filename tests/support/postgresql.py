"""A PostgreSQL server of its own for a test run: Debian's programs, a folder of its own, a socket and no port."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Self

import psycopg

from tests.support.processes import Child

_USER = "postgres"


class PrivatePostgresql:
    """A running server. PostgreSQL refuses root, so root starts it as the user ``postgres``.

    Attributes:
        folder: data and socket.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="inlay-pg-"))
        self._bin = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
        self._as_user: list[str] = []
        if os.geteuid() == 0:
            user = pwd.getpwnam(_USER)
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._as_user = [
                "setpriv",
                f"--reuid={user.pw_uid}",
                f"--regid={user.pw_gid}",
                "--clear-groups",
                "--pdeathsig",
                "keep",
            ]
        self._server: Child | None = None
        self._databases = 0

    def __enter__(self) -> Self:
        data = str(self.folder / "data")
        self._run("initdb", "-D", data, "-U", _USER, "-A", "trust", "--no-sync", "-E", "UTF8")
        command = [*self._as_user, str(self._bin / "postgres"), "-D", data, "-k", str(self.folder)]
        command += ["-c", "listen_addresses=", "-c", "fsync=off"]
        self._server = Child(command, log=self.folder / "log", cwd=self.folder)
        self._server.wait_until(self._ready, "PostgreSQL answers", seconds=30)
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._server is not None:
            # asked by SIGTERM it waits until every client has gone
            self._server.process.send_signal(signal.SIGINT)
            self._server.process.wait(30)
        shutil.rmtree(self.folder)

    def fresh_database(self) -> str:
        """Make an empty database.

        Returns:
            Its SQLAlchemy URL.
        """
        self._databases += 1
        name = f"portal{self._databases}"
        self._run("createdb", "-h", str(self.folder), "-U", _USER, name)
        return f"postgresql+psycopg://{_USER}@/{name}?host={self.folder}"

    def _ready(self) -> bool:
        try:
            psycopg.connect(host=str(self.folder), user=_USER, dbname="postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as_user, str(self._bin / program), *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder, timeout=60)
