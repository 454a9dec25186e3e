"""The agent's daemon: puts the parts together, runs until it is told to end.

``inlay agent`` in a terminal logs there as well; started by a command it says on a pipe (``--ready-fd``) that it
listens. What is missing on the machine (PC/SC, key store, free ports) is said in the log, and the agent goes on
without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, Final

from agent.config import Policy, machine_policy
from agent.desktop.dialog_process import Windows
from agent.desktop.hardening import forbid_dumps
from agent.desktop.notify import DesktopNotifier
from agent.desktop.paths import EXIT_UNSAFE, UnsafePath
from agent.desktop.unsafe_folder import explained
from agent.device import Device, version
from agent.environment import LastEnvironment, allowed
from agent.errors import as_inlay_error, set_up_logging
from agent.folders import Folders, user_folders
from agent.handlers.registry import PAGE, PRIVATE, order_handlers
from agent.journal_access import JournalAccess
from agent.order_desk import OrderDesk, Tools
from agent.order_ports import Services
from agent.ports import UserEnvironment
from agent.private_socket import AlreadyRunningError, PrivateSocket
from agent.shutdown import Shutdown
from agent.trust import TrustStore
from agent.trust_desk import TrustStoreDesk
from protocol.errors import InlayError
from protocol.traces import describe

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from agent.card_places import CardPlaces
    from agent.server import LoopbackServer

_LOG = logging.getLogger("agent")

_TRAFFIC: Final = "--traffic"
EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_ALREADY_RUNNING: Final = 3


class Agent:
    """The parts, and their start and end in the right order."""

    def __init__(self, folders: Folders) -> None:
        """Put the parts together; nothing runs yet."""
        from agent.card_care import CardCare
        from agent.card_keeper import CardKeeper
        from agent.cards import VirtualCards
        from agent.desktop.key_store_watch import KeyStoreWatch
        from agent.desktop.session_watch import SessionWatch
        from agent.ordered_card import CardReaders
        from agent.reader_watch import ReaderWatch
        from agent.readers import PcscReaders

        policy = machine_policy(folders.machine)
        device = Device(folders.state, allow_file=policy.file_storage)
        self._device = device
        self._trust = TrustStore(folders)
        self._environment = LastEnvironment()
        self._journal = JournalAccess(folders.journal, device)
        places, sessions = _places(policy), SessionWatch()
        self._cards = VirtualCards(folders.state, device, self._journal, places, sessions)
        self._keeper = CardKeeper(self._cards, places, device, self._catch_up, sessions, KeyStoreWatch())
        care = CardCare(self._cards, places, self._journal, device)
        self._reader_watch = ReaderWatch()
        readers = CardReaders(self._reader_watch, folders.machine, places.has_own_in)
        handlers = order_handlers(self._cards, care, readers)
        windows = Windows()
        here, notifier = self._environment.current, DesktopNotifier()
        self._notifier = notifier
        tools = Tools(self._trust, device, self._journal, self._cards, windows, notifier, handlers, here)
        self._desk = OrderDesk(tools)
        self._shutdown = Shutdown(self._desk.under_way)
        seen = PcscReaders(self._reader_watch, folders.machine)
        trusted = TrustStoreDesk(self._trust)
        self._services = Services(self._desk, self._cards, seen, trusted, care, windows, self._shutdown)
        self._socket = PrivateSocket(self._services, PRIVATE, self._environment)
        self._loopback: LoopbackServer | None = None

    async def run(self, ready: int | None) -> None:
        """Run until SIGTERM or SIGINT, or until the person's command ends it.

        Args:
            ready: descriptor of a pipe that is told when commands are listened to.

        Raises:
            AlreadyRunningError: another agent of this user runs.
            UnsafePath: the runtime folder isn't this user's alone.
        """
        stop = self._shutdown.asked
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, stop.set)
        await self._socket.listen()
        if ready is not None:
            os.write(ready, b"ready")
            os.close(ready)
        _LOG.info("agent %s listens", version())
        starting = asyncio.create_task(self._start())
        try:
            await stop.wait()
        finally:
            _LOG.info("agent ends")
            starting.cancel()
            await asyncio.wait({starting})
            await self._end()

    async def _start(self) -> None:
        """What may come after the first commands: each part starts, or says why it doesn't."""
        await asyncio.gather(self._start_pages(), self._start_cards(), self._say_traffic())

    async def _say_traffic(self) -> None:
        """A notification, where a person's session is there to show it: nobody is to log traffic unawares."""
        from agent.pcsc import traffic

        if traffic.is_on():
            here = UserEnvironment(allowed(os.environ))
            await self._try("traffic", self._notifier.notify(InlayError("card_traffic_logged"), here))

    async def _start_pages(self) -> None:
        await self._try("pages can't reach this agent directly", self._listen_to_pages())
        await self._try("links", asyncio.to_thread(_check_links))

    async def _start_cards(self) -> None:
        await self._try("the cards' folder can't be swept", self._cards.sweep())
        await self._try("the cards can't be shown yet", self._keeper.start())

    async def _catch_up(self) -> None:
        """What needs the device's own secret, as soon as it is open."""
        await self._try("the device key can't be made", asyncio.to_thread(self._device.key))
        await self._try("unfinished orders can't be gone on with", self._desk.resume())

    async def _listen_to_pages(self) -> None:
        from agent.server import LoopbackServer  # late: it costs more than all the rest

        self._loopback = LoopbackServer(
            self._services,
            PAGE,
            lambda: [entry.origin for entry in self._trust.entries()],
            self._environment,
        )
        await self._loopback.listen()

    async def _try(self, what: str, work: Coroutine[Any, Any, object]) -> None:
        try:
            await work
        except Exception as cause:
            error = as_inlay_error(cause)
            _LOG.warning("%s: %s (%s)", what, error.why, error.code)

    async def _end(self) -> None:
        await self._socket.close()
        await self._keeper.close()
        await self._desk.close()
        if self._loopback is not None:
            await self._loopback.close()
        await self._reader_watch.close()
        await self._cards.close()
        self._journal.close()
        self._socket.release()  # last: no other agent may touch cards and journal before


def _places(policy: Policy) -> CardPlaces:
    """The readers; nothing is in one before it is known whether the person is there."""
    from agent.card_places import CardPlaces

    return CardPlaces(pin_lapse=policy.pin_lapse_seconds, away=InlayError("agent_starting"))


def _check_links() -> None:
    from agent.desktop import autostart
    from agent.desktop.url_handler import check_and_repair

    autostart.repair()
    problem = check_and_repair().problem
    if problem is not None:
        _LOG.warning("links don't open Inlay: %s %s", problem.why, problem.next_step)


def run(arguments: list[str]) -> int:
    """Run the daemon.

    Args:
        arguments: nothing, or ``--ready-fd NUMBER``; ``--traffic`` before it logs what is said to cards.

    Returns:
        The exit status.
    """
    try:
        traffic = arguments[:1] == [_TRAFFIC]
        ready = _ready_descriptor(arguments[traffic:])
    except ValueError:
        sys.stderr.write("usage: inlay agent [--traffic]\n")
        return EXIT_USAGE
    try:
        forbid_dumps()
        os.umask(0o077)  # whatever the starter's: folders on the way to ours are nobody else's to write in
        folders = user_folders()
        set_up_logging(folders.log, to_terminal=sys.stderr is not None and sys.stderr.isatty())
        if traffic:
            _log_traffic()
        asyncio.run(Agent(folders).run(ready))
    except AlreadyRunningError:
        sys.stderr.write("inlay: the agent is running already.\n")
        return EXIT_ALREADY_RUNNING
    except UnsafePath as error:
        found = explained(error)
        sys.stderr.write(
            f"inlay: {found.happened}\n  Why: {found.why}\n  Next: {found.next_step}\n  ({found.code})\n"
        )
        return EXIT_UNSAFE
    except (OSError, InlayError) as error:
        _LOG.critical("the agent can't run: %s", describe(error))
        sys.stderr.write(f"inlay: the agent can't run: {as_inlay_error(error).why}\n")
        return EXIT_FAILED
    return EXIT_OK


def _log_traffic() -> None:
    from agent.pcsc import traffic

    traffic.turn_on()
    sys.stderr.write("inlay: what is said to cards is logged until this agent ends.\n")


def _ready_descriptor(arguments: list[str]) -> int | None:
    """The descriptor to say *ready* on.

    Raises:
        ValueError: other arguments, or no such descriptor.
    """
    match arguments:
        case []:
            return None
        case ["--ready-fd", number] if number.isascii() and number.isdigit():
            descriptor = int(number)
            with contextlib.suppress(OSError):
                os.fstat(descriptor)
                os.set_inheritable(descriptor, False)
                return descriptor
    raise ValueError(arguments)


if __name__ == "__main__":
    raise SystemExit(run(sys.argv[1:]))
