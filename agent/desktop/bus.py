"""One listening connection to a D-Bus bus: calls, and signals as they come. The one place that uses jeepney.

jeepney is what keyring's Secret Service backend speaks D-Bus with, too; it is plain Python, and waits on the event
loop's own descriptors: no thread, no timer while nothing comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Self

from jeepney import DBusAddress, HeaderFields, MatchRule, MessageType, message_bus, new_method_call
from jeepney.auth import AuthenticationError
from jeepney.io.asyncio import DBusConnection, open_dbus_connection

if TYPE_CHECKING:
    from collections.abc import Callable

    from jeepney import Message

_LOG = logging.getLogger(__name__)

_ANSWER_SECONDS: Final = 10.0
_BUS: Final = DBusAddress("/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus")
PROPERTIES: Final = "org.freedesktop.DBus.Properties"


class BusError(Exception):
    """The bus isn't there, has gone, or the service answers with an error.

    Attributes:
        name: D-Bus name of the error; "" when there is no answer.
    """

    def __init__(self, name: str = "") -> None:
        super().__init__(name)
        self.name = name


class Signal(NamedTuple):
    """A signal.

    Attributes:
        sender: unique name of who sent it: not everybody who may send is whom it is believed from.
        path: object.
        interface: its interface.
        member: its name.
        body: its arguments.
    """

    sender: str
    path: str
    interface: str
    member: str
    body: tuple[Any, ...]


class Bus:
    """A connection."""

    def __init__(self, connection: DBusConnection, heard: Callable[[Signal], None]) -> None:
        self._connection = connection
        self._heard = heard
        self._answers: dict[int, asyncio.Future[Message]] = {}
        self.ended = asyncio.Event()
        self._receiving = asyncio.create_task(self._receive())

    @classmethod
    async def open(cls, which: Literal["SESSION", "SYSTEM"] | str, heard: Callable[[Signal], None]) -> Self:
        """Connect.

        Args:
            which: ``SESSION``, ``SYSTEM``, or a bus address.
            heard: told of each signal that `follow` asked for; must return at once.

        Raises:
            BusError: there is no such bus.
        """
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return cls(await open_dbus_connection(which), heard)
        except (OSError, EOFError, KeyError, ValueError, RuntimeError, AuthenticationError) as error:
            raise BusError from error  # TimeoutError is an OSError

    async def call(
        self, service: str, path: str, interface: str, member: str, *body: Any, signature: str | None = None
    ) -> tuple[Any, ...]:
        """Call a method.

        Returns:
            The values it returns.

        Raises:
            BusError: no such service, an error, no answer, or the bus has gone.
        """
        address = DBusAddress(path, bus_name=service, interface=interface)
        return await self._ask(new_method_call(address, member, signature, body))

    async def properties(self, service: str, path: str, interface: str) -> dict[str, Any]:
        """All properties of an object.

        Raises:
            BusError: as `call`.
        """
        (found,) = await self.call(service, path, PROPERTIES, "GetAll", interface, signature="s")
        return {name: value for name, (_, value) in found.items()}

    async def owner(self, service: str) -> str | None:
        """Unique name of who answers as a service now."""
        try:
            (name,) = await self._ask(new_method_call(_BUS, "GetNameOwner", "s", (service,)))
        except BusError:
            return None
        return str(name)

    async def follow(self, service: str) -> None:
        """Hear of all signals of a service, and of its coming and going (``NameOwnerChanged``).

        Raises:
            BusError: the bus has gone.
        """
        owners = MatchRule(
            type="signal", sender=_BUS.bus_name, interface=_BUS.interface, member="NameOwnerChanged"
        )
        owners.add_arg_condition(0, service)
        for rule in (MatchRule(type="signal", sender=service), owners):
            await self._ask(message_bus.AddMatch(rule))

    async def close(self) -> None:
        """Disconnect."""
        self._receiving.cancel()
        writer = self._connection.writer
        writer.close()  # before anything is waited for: who is cancelled here leaves nothing open
        await asyncio.wait({self._receiving})
        with contextlib.suppress(OSError):  # it was cut before
            await writer.wait_closed()

    async def _ask(self, message: Message) -> tuple[Any, ...]:
        if self.ended.is_set():
            raise BusError
        serial = next(self._connection.outgoing_serial)
        waiting = self._answers[serial] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await self._connection.send(message, serial=serial)
                answer = await waiting
        except (OSError, EOFError) as error:
            raise BusError from error
        finally:
            self._answers.pop(serial, None)
        if answer.header.message_type is MessageType.error:
            raise BusError(str(answer.header.fields.get(HeaderFields.error_name, "")))
        return tuple(answer.body)

    async def _receive(self) -> None:
        try:
            while True:
                self._take(await self._connection.receive())
        except (OSError, EOFError, ValueError) as error:
            _LOG.info("a D-Bus connection ended: %s", type(error).__name__)
        finally:
            self.ended.set()
            for waiting in self._answers.values():
                if not waiting.done():
                    waiting.set_exception(EOFError())

    def _take(self, message: Message) -> None:
        fields = message.header.fields
        if message.header.message_type is MessageType.signal:
            names = (HeaderFields.sender, HeaderFields.path, HeaderFields.interface, HeaderFields.member)
            sender, path, interface, member = (str(fields.get(name, "")) for name in names)
            self._heard(Signal(sender, path, interface, member, tuple(message.body)))
            return
        waiting = self._answers.get(fields.get(HeaderFields.reply_serial, -1))
        if waiting is not None and not waiting.done():
            waiting.set_result(message)
