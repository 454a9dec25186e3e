"""A key store as a desktop session has one: D-Bus and gnome-keyring, unlocked, in a home of its own."""

from __future__ import annotations

import os
import secrets
import subprocess
from typing import TYPE_CHECKING

from tests.support.processes import Child

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class KeyStore:
    """A session bus with gnome-keyring's Secret Service on it.

    Attributes:
        address: the value of ``DBUS_SESSION_BUS_ADDRESS``; empty before ``start``.
    """

    def __init__(self, folder: Path, env: Mapping[str, str], *, outlives: bool = False) -> None:
        """Prepare, without starting it.

        Args:
            folder: existing folder for logs.
            env: environment of the person it belongs to, with ``HOME`` and ``XDG_RUNTIME_DIR``.
            outlives: it goes on when this process ends.
        """
        self._folder = folder
        self._env = dict(env)
        self._outlives = outlives
        self._children: dict[str, Child] = {}
        self.address = ""

    def start(self) -> bool:
        """Start both; whether a key store is there then. Where it can't be had, nothing is left running."""
        try:
            self._start_bus()
            self._start_keyring()
        except (OSError, AssertionError):
            self.stop()
            return False
        return True

    def stop(self) -> None:
        """End both."""
        while self._children:
            self._children.popitem()[1].stop()
        self.address = ""

    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        return {name: child.pid for name, child in self._children.items()}

    def _start_bus(self) -> None:
        read_end, write_end = os.pipe()
        with os.fdopen(read_end) as told:
            argv = ["dbus-daemon", "--session", "--nofork", "--nopidfile", f"--print-address={write_end}"]
            try:
                self._children["dbus"] = self._child(argv, "dbus", pass_fds=[write_end])
            finally:
                os.close(write_end)
            self.address = told.readline().strip()
        if not self.address:
            raise OSError("dbus-daemon gave no address")
        self._env["DBUS_SESSION_BUS_ADDRESS"] = self.address

    def _start_keyring(self) -> None:
        """The password is thrown away: what is in the key store lasts as long as the session."""
        argv = ["gnome-keyring-daemon", "--foreground", "--components=secrets", "--unlock"]
        read_end, write_end = os.pipe()
        with os.fdopen(write_end, "w") as password:
            try:
                child = self._child(argv, "keyring", stdin=read_end)
            finally:
                os.close(read_end)
            password.write(secrets.token_hex(16))
        self._children["keyring"] = child
        child.wait_until(self._answers, "gnome-keyring on the session bus")

    def _answers(self) -> bool:
        command = ["dbus-send", "--session", "--print-reply", "--dest=org.freedesktop.DBus", "/"]
        command += ["org.freedesktop.DBus.NameHasOwner", "string:org.freedesktop.secrets"]
        done = subprocess.run(command, env=self._env, capture_output=True, text=True, timeout=20, check=False)
        return "boolean true" in done.stdout

    def _child(
        self, argv: list[str], name: str, *, pass_fds: list[int] | None = None, stdin: int | None = None
    ) -> Child:
        return Child(
            argv,
            log=self._folder / f"{name}.log",
            env=self._env,
            pass_fds=pass_fds or [],
            stdin=stdin,
            outlives=self._outlives,
        )
