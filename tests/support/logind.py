"""A system bus of the test's own with python-dbusmock's logind on it, which does as a test says."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any, Final, Self

from jeepney import DBusAddress, MessageType, new_method_call
from jeepney.io.blocking import DBusConnection, open_dbus_connection

from tests.support.processes import Child

if TYPE_CHECKING:
    from pathlib import Path

_SERVICE: Final = "org.freedesktop.login1"
_MANAGER: Final = "/org/freedesktop/login1"
_MOCK: Final = "org.freedesktop.DBus.Mock"
PROPERTIES: Final = "org.freedesktop.DBus.Properties"
_PYTHON: Final = "/usr/bin/python3"  # dbusmock is Debian's, and needs Debian's GLib


class MockLogind:
    """The bus, and logind on it.

    Attributes:
        address: the bus's address.
    """

    def __init__(self, folder: Path) -> None:
        """Prepare; ``folder`` takes the logs."""
        self._folder = folder
        self._bus: Child | None = None
        self._mock: Child | None = None
        self._control: DBusConnection | None = None
        self.address = ""

    def start_bus(self) -> Self:
        """Start the bus, nothing on it."""
        path = self._folder / "bus"
        self.address = f"unix:path={path}"
        argv = ["dbus-daemon", "--session", "--nofork", "--nopidfile", f"--address={self.address}"]
        self._bus = Child(argv, log=self._folder / "bus.log")
        self._bus.wait_until(lambda: _listens(path), "the bus")
        return self

    def start(self) -> Self:
        """Start logind, and the bus when there is none; it knows no session."""
        if self._bus is None:
            self.start_bus()
        environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": self.address}
        argv = [_PYTHON, "-m", "dbusmock", "--template", "logind"]
        self._mock = Child(argv, log=self._folder / "logind.log", env=environment)
        self._mock.wait_until(self._answers, "logind on the bus")
        return self

    def stop_logind(self) -> None:
        """logind ends; the bus stays."""
        if self._mock is not None:
            self._mock.stop()
            self._mock = None

    def stop(self) -> None:
        """End both."""
        if self._control is not None:
            self._control.close()
            self._control = None
        self.stop_logind()
        if self._bus is not None:
            self._bus.stop()
            self._bus = None
            (self._folder / "bus").unlink(missing_ok=True)

    # --- what happens

    def add_session(
        self, name: str, *, seat: str = "seat0", user: int | None = None, active: bool = True
    ) -> None:
        """Somebody logs in; an empty seat is a session over the network."""
        user = os.geteuid() if user is None else user
        self.call(_MANAGER, _MOCK, "AddSession", "ssusb", name, seat or "none", user, "somebody", active)
        if not seat:
            value = ("(so)", ("", "/"))
            self.call(session(name), PROPERTIES, "Set", "ssv", f"{_SERVICE}.Session", "Seat", value)
        self.emit(_MANAGER, f"{_SERVICE}.Manager", "SessionNew", "so", name, session(name))

    def end_session(self, name: str) -> None:
        """They log out."""
        self.call(_MANAGER, _MOCK, "RemoveObject", "s", session(name))
        self.emit(_MANAGER, f"{_SERVICE}.Manager", "SessionRemoved", "so", name, session(name))

    def change(self, name: str, **properties: bool) -> None:
        """A session's properties change."""
        values = {key: ("b", value) for key, value in properties.items()}
        self.call(session(name), _MOCK, "UpdateProperties", "sa{sv}", f"{_SERVICE}.Session", values)

    def lock(self, name: str) -> None:
        """A session is told to lock its screen, as `loginctl lock-session` does it."""
        self.call(session(name), f"{_SERVICE}.Session", "Lock", None)

    def unlock(self, name: str) -> None:
        """It is told to unlock it."""
        self.call(session(name), f"{_SERVICE}.Session", "Unlock", None)

    def prepare(self, what: str, begins: bool) -> None:
        """``Sleep`` or ``Shutdown`` begins, or is over."""
        self.emit(_MANAGER, f"{_SERVICE}.Manager", f"PrepareFor{what}", "b", begins)

    def emit(self, path: str, interface: str, member: str, signature: str, *values: Any) -> None:
        """A signal of logind's."""
        arguments = [(kind, value) for kind, value in zip(signature, values, strict=True)]
        self.call(path, _MOCK, "EmitSignal", "sssav", interface, member, signature, arguments)

    def call(self, path: str, interface: str, member: str, signature: str | None, *body: Any) -> Any:
        """Call something of the mock's."""
        if self._control is None:
            self._control = open_dbus_connection(self.address)
        address = DBusAddress(path, bus_name=_SERVICE, interface=interface)
        answer = self._control.send_and_get_reply(
            new_method_call(address, member, signature, body), timeout=20
        )
        assert answer.header.message_type is MessageType.method_return, answer.body
        return answer.body

    def _answers(self) -> bool:
        try:
            self.call(_MANAGER, f"{_SERVICE}.Manager", "ListSessions", None)
        except AssertionError:  # nobody has the name yet
            return False
        return True


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def session(name: str) -> str:
    """A session's object."""
    return f"{_MANAGER}/session/{name}"
