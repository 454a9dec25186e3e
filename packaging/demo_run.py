"""`make demo`: portal, agent, pcscd and browser on this machine, and a card in the end.

At a terminal a person does the use case. Without one (or with DEMO=auto) the demo does it itself, as
a person would: a real Chromium on a virtual screen, a real mouse, a real keyboard. Everything is in
`.run/demo` and ends with the demo; KEEP=1 leaves portal, agent and card until `make demo-stop`.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
import traceback
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from demo_pcscd import SystemPcscd
from demo_state import FOLDER, DemoError, State
from demo_walk import Card, Steps, check_card, get_card

from tests.support.browser import CHROMIUM, Portal, chromium, person_command
from tests.support.card_checks import module
from tests.support.display import VirtualDisplay
from tests.support.portal_process import Account
from tests.support.processes import Child
from tests.support.stack import ANY_LEVEL, Desk, Site, free_port, password

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

PORT = 8443
SCREEN = (1720, 1024)

EXIT_OK, EXIT_FAILED, EXIT_INTERRUPTED = 0, 1, 130


class Demo:
    """One run of the demo.

    Attributes:
        keep: leave portal, agent and card running.
        steps: what is printed.
    """

    def __init__(self, *, keep: bool) -> None:
        """Lay out the folder."""
        self.keep = keep
        self.steps = Steps()
        self._state = State()
        self._pcscd = SystemPcscd(FOLDER, self._state, outlives=keep)
        self._user = Account("demo@example.org", "Demo user", password())
        for name in ("desk", "portal", "screen", "checks"):
            (FOLDER / name).mkdir()
        self._desk: Desk | None = None
        self._site = Site(FOLDER / "portal", port=_port(self.steps), host=_host(), outlives=keep)

    async def by_itself(self) -> None:
        """The whole use case without a person."""
        steps, origin = self.steps, self._site.portal.origin
        async with AsyncExitStack() as ends:
            with steps.step("screen (Xvfb) with a window manager"):
                screen = ends.enter_context(
                    VirtualDisplay(FOLDER / "screen", width=SCREEN[0], height=SCREEN[1])
                )
            ends.push(_picture_of_failure(screen))
            desk = await self._start(screen.env)
            with steps.step("Chromium with a throw-away profile that has the CA"):
                browser = chromium(
                    screen,
                    desk.home,
                    portal=self._address(),
                    ca_file=self._site.ca.ca_file,
                    block_loopback=True,  # else the page, being on this machine itself, needs no link
                )
                context = await ends.enter_async_context(browser)
            page = context.pages[0]
            pin, path = await get_card(steps, screen, page, origin, self._user)
            card = await check_card(steps, desk, self._site.portal, pin, path, FOLDER / "checks")
        steps.say(f"time of the whole: {steps.seconds:.1f} s")
        if self.keep:
            steps.say(f"left running; its commands: {_command(desk)} doctor (or cards, readers, --help)")
            print(json.dumps(self._left_running(desk, card)), flush=True)
        else:
            self.end()
        steps.say(f"virtual smart card active, {len(card.certificates)} certificates valid")

    async def with_person(self) -> None:
        """Start everything, and wait until the person has seen enough."""
        desk = await self._start(_own_screen())
        portal, say = self._site.portal, self.steps.say
        say(f"the portal:    {portal.origin}")
        say(f"log in as:     {self._user.email}   password: {self._user.password}")
        say(
            f"administrator: {self._site.administrator.email}   password: {self._site.administrator.password}"
        )
        say(f"CA of the portal's https: {self._site.ca.ca_file}")
        browser = None
        if os.environ.get("DISPLAY") and shutil.which(CHROMIUM):
            argv = person_command(desk.home, self._address(), self._site.ca.ca_file, portal.origin)
            browser = Child(argv, log=FOLDER / "chromium.log", env=desk.agent.env)
            say("Chromium is opening, with a profile of its own")
        else:
            say("no display (or no Chromium): open the address where you like, and choose there")
            say("“Type a code instead”; then, in another terminal:")
            say(f"  {_command(desk)} code")
        say("Enter (or Ctrl-C) ends the demo" + (", and leaves it running" if self.keep else ""))
        try:
            await _enter()
        finally:
            if browser is not None:
                browser.stop()
        if self.keep:
            print(json.dumps(self._left_running(desk, None)), flush=True)
        else:
            self.end()

    def end(self) -> None:
        """End all that was started, undo what was changed, and remove the folder."""
        self._stop()
        shutil.rmtree(FOLDER)

    def failed(self, error: BaseException) -> None:
        """Say what happened, why, and what next; end all, and keep the logs."""
        self.steps.say(f"FAILED at: {self.steps.now}")
        self.steps.say(f"why: {str(error).strip() or type(error).__name__}")
        self._stop()
        if isinstance(error, DemoError):
            self.steps.say(f"next: {error.next_step}")
        else:
            self.steps.say(f"next: look at the logs (and screen.png) in {FOLDER}; then start again")

    def _stop(self) -> None:
        if self._desk is not None:
            self._desk.stop()
        self._site.portal.stop()
        for line in self._state.end():
            self.steps.say(line)

    async def _start(self, env: dict[str, str]) -> Desk:
        """pcscd, key store, portal and agent."""
        steps, site = self.steps, self._site
        with steps.step("pcscd with Inlay's virtual readers"):
            self._pcscd.start()
        for line in self._pcscd.said:
            steps.say(f"  {line}")
        desk = self._desk = Desk(FOLDER / "desk", env, outlives=self.keep)
        with steps.step("key store (gnome-keyring on a session bus of its own)"):
            desk.start_keystore()
            for name, pid in desk.keystore.pids().items():
                self._state.started(name, pid)
        steps.say(f"  the device secret is kept at level {desk.level!r}")
        with steps.step("portal made and started (SQLite, https), agent registered and started"):
            making = asyncio.to_thread(self._make_portal, desk.level)
            await _both(making, asyncio.to_thread(desk.agent.register))
            site.portal.start()
            self._state.started("portal", site.portal.pid)
            desk.agent.start()
            self._state.started("agent", desk.agent.pid)
        with steps.step("portal trusted by its fingerprint, its CA pinned"):
            await asyncio.to_thread(desk.trust, site)
        return desk

    def _make_portal(self, level: str) -> None:
        self._site.prepare(self._user, options=None if level == "keystore" else ANY_LEVEL)

    def _address(self) -> Portal:
        host, _, port = self._site.portal.portal_id.partition(":")
        return Portal(int(port), host=host, public=False)

    def _left_running(self, desk: Desk, card: Card | None) -> dict[str, object]:
        return {
            "portal": self._site.portal.origin,
            "ca_file": str(self._site.ca.ca_file),
            "user": self._user.email,
            "password": self._user.password,
            "administrator": self._site.administrator.email,
            "administrator_password": self._site.administrator.password,
            "pin": card.pin if card else None,
            "reader": card.reader if card else None,
            "atr": card.atr if card else None,
            "path": card.path if card else None,
            "level": desk.level,
            "pids": {name: process["pid"] for name, process in self._state.processes.items()},
            "home": str(desk.home),
            "inlay": str(desk.agent.launcher),
            "runtime": desk.agent.env["XDG_RUNTIME_DIR"],
            "opensc_module": str(module()),
            "stop": "make demo-stop",
        }


def _picture_of_failure(screen: VirtualDisplay) -> Callable[[object, object, object], None]:
    """Keeps what is on the screen when something fails."""

    def keep(kind: object, _error: object, _trace: object) -> None:
        if kind is not None:
            screen.run("import", "-window", "root", str(FOLDER / "screen.png"))

    return keep


def _command(desk: Desk) -> str:
    """How the demo's ``inlay`` is called from any shell: it has a home of its own, and a key store of its own."""
    names = ("HOME", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")
    settings = " ".join(f"{name}={desk.agent.env[name]}" for name in names if name in desk.agent.env)
    return f"env {settings} {desk.agent.launcher}"


def _own_screen() -> dict[str, str]:
    """This process's environment, with which X11 is reached from another home as well."""
    env = dict(os.environ)
    env.pop("WAYLAND_DISPLAY", None)  # its socket lies in the person's own runtime folder
    cookies = Path.home() / ".Xauthority"
    if "XAUTHORITY" not in env and cookies.exists():
        env["XAUTHORITY"] = str(cookies)
    return env


async def _both(one: Coroutine[object, object, object], other: Coroutine[object, object, object]) -> None:
    """Two things at once; where one fails the other ends before that is said."""
    for outcome in await asyncio.gather(one, other, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


async def _enter() -> None:
    """Wait until the person presses Enter, or the terminal is gone."""
    pressed = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), pressed.set)
    try:
        await pressed.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())
    sys.stdin.readline()


def _host() -> str:
    """``localhost``, or the address where the machine has no such name (a system without ``/etc/hosts``)."""
    try:
        socket.getaddrinfo("localhost", None, socket.AF_INET)
    except OSError:
        return "127.0.0.1"
    return "localhost"


def _port(steps: Steps) -> int:
    from tests.support.pcscd import listening_ports

    if PORT not in listening_ports():
        return PORT
    steps.say(f"port {PORT} is taken: another one is used")
    return free_port()


async def _run(demo: Demo, *, automatic: bool) -> None:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 (a coroutine runs in a task)
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await (demo.by_itself() if automatic else demo.with_person())


def main() -> int:
    """Run the demo; the return value is the exit status."""
    os.environ.pop("PYTHONPATH", None)  # it was for this process alone
    automatic = os.environ.get("DEMO") == "auto" or not sys.stdin.isatty()
    keep = os.environ.get("KEEP", "") not in ("", "0")
    earlier = State.read()
    if earlier is not None and (running := earlier.running()):
        print(f"demo: one is running already ({', '.join(running)}): end it by: make demo-stop")
        return EXIT_FAILED
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    demo = Demo(keep=keep)
    try:
        asyncio.run(_run(demo, automatic=automatic))
    except (KeyboardInterrupt, asyncio.CancelledError):
        demo.steps.say("interrupted")
        demo.end()
        return EXIT_INTERRUPTED
    except Exception as error:
        (FOLDER / "traceback.log").write_text(traceback.format_exc())
        demo.failed(error)
        return EXIT_FAILED
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
