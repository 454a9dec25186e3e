"""A key store as a desktop session has one: D-Bus and gnome-keyring, unlocked, in a home of its own."""

from __future__ import annotations

import os
import secrets
import socket
import struct
import subprocess
from typing import TYPE_CHECKING, Any

from jeepney import DBusAddress, MessageType, new_method_call
from jeepney.io.blocking import DBusConnection, open_dbus_connection

from tests.support.processes import Child

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


_LOGIN = "/org/freedesktop/secrets/collection/login"
_UNLOCK = 1  # of gnome-keyring's control socket


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
        self._password = secrets.token_hex(16)
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

    def lock(self) -> None:
        """Lock the login keyring."""
        with open_dbus_connection(self.address) as bus:
            _call(bus, "org.freedesktop.Secret.Service", "Lock", "ao", [_LOGIN])

    def unlock(self) -> None:
        """Unlock it as its own window does, and say so on the bus."""
        service = "org.freedesktop.Secret.Service"
        interface = "org.gnome.keyring.InternalUnsupportedGuiltRiddenInterface"
        with open_dbus_connection(self.address) as bus:
            _, session = _call(bus, service, "OpenSession", "sv", "plain", ("s", ""))
            secret = (session, b"", self._password.encode(), "text/plain")
            _call(bus, interface, "UnlockWithMasterPassword", "o(oayays)", _LOGIN, secret)

    def unlock_silently(self) -> None:
        """Unlock it as logging in does (pam_gnome_keyring): nothing is said on the bus."""
        password = self._password.encode()
        operation = struct.pack(">III", 12 + len(password), _UNLOCK, len(password)) + password
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(20)
            control.connect(f"{self._env['XDG_RUNTIME_DIR']}/keyring/control")
            control.sendall(b"\0" + operation)
            answer = control.recv(8)
        assert answer == struct.pack(">II", 8, 0), answer

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
        """The password is known to this object alone: what is in the key store lasts as long as it."""
        argv = ["gnome-keyring-daemon", "--foreground", "--components=secrets", "--unlock"]
        read_end, write_end = os.pipe()
        with os.fdopen(write_end, "w") as password:
            try:
                child = self._child(argv, "keyring", stdin=read_end)
            finally:
                os.close(read_end)
            password.write(self._password)
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


def _call(bus: DBusConnection, interface: str, member: str, signature: str, *body: Any) -> Any:
    address = DBusAddress("/org/freedesktop/secrets", "org.freedesktop.secrets", interface)
    answer = bus.send_and_get_reply(new_method_call(address, member, signature, body), timeout=20)
    assert answer.header.message_type is MessageType.method_return, answer.body
    return answer.body
