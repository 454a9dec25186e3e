"""The person's hands: open the link, type the PIN twice, type the number into the page; nothing after that.

Agent, window and portal may go at any moment. The hands go on with what is still asked of them, as a person does, and
begin nothing anew.
"""

from __future__ import annotations

import abc
import contextlib
import http.client
import json
import os
import re
import select
import socket
import threading
import urllib.error
from typing import TYPE_CHECKING, Protocol

from tests.support.daemon_process import PIN
from tests.support.person import CONSENT_TITLE, NUMBER_TITLE, cursor_in_field

if TYPE_CHECKING:
    from bench.page import PortalPages
    from tests.faults.errands import Errand
    from tests.support.daemon_process import DaemonProcess
    from tests.support.display import VirtualDisplay

_LOOK_SECONDS = 0.02
_TRY_AGAIN_SECONDS = 0.2
_NUMBER = re.compile(rb"Type ([0-9]{3}) in the web page")


class Hands(Protocol):
    """A person who opens a link and goes on with what is asked."""

    @property
    def busy(self) -> bool:
        """Whether the person still waits for an answer, or is being asked."""

    def begin(self) -> None:
        """Click."""

    def stop(self) -> None:
        """Turn away."""


class _Person(abc.ABC):
    """What hands at a terminal and hands at a window share: a thread, and the page."""

    def __init__(self, agent: DaemonProcess, pages: PortalPages, link: str) -> None:
        self._agent = agent
        self._pages = pages
        self._link = link
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._connection = agent.connect()

    @property
    def busy(self) -> bool:
        """See `Hands`; over when the agent has answered, or is gone."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Turn away."""
        self._stopping.set()
        self._thread.join()
        self._connection.close()

    @abc.abstractmethod
    def _work(self) -> None:
        """What the hands do, in their own thread, until they are turned away."""

    def _type_number(self, number: str) -> bool:
        """Into the page: whether the portal says that it has taken it; it may not have the consent yet, or be away."""
        try:
            self._pages.number(number)
        except urllib.error.HTTPError as refused:
            refused.close()
        except (OSError, http.client.HTTPException):
            pass
        else:
            return True
        return False


class AtTerminal(_Person):
    """Hands on a terminal, where the agent asks."""

    def __init__(self, agent: DaemonProcess, pages: PortalPages, link: str, errand: Errand) -> None:
        """See the class; ``errand`` has the answers."""
        super().__init__(agent, pages, link)
        self._answers = errand.answers

    def begin(self) -> None:
        """``inlay open LINK``."""
        self._master, slave = os.openpty()
        line = json.dumps({"method": "open", "params": {"link": self._link, "environment": {}}})
        socket.send_fds(self._connection, [line.encode() + b"\n"], [slave])
        os.close(slave)
        self._thread.start()

    def stop(self) -> None:
        """Turn away; the terminal closes."""
        super().stop()
        os.close(self._master)

    def _work(self) -> None:
        seen, typed, lines, number = b"", 0, b"", ""
        while not self._stopping.is_set():
            pause = _TRY_AGAIN_SECONDS if number else _LOOK_SECONDS
            ready, _, _ = select.select([self._master, self._connection.fileno()], [], [], pause)
            if self._connection.fileno() in ready:
                with contextlib.suppress(OSError):
                    lines += (piece := self._connection.recv(4096))
                    if piece and not (lines.count(b"\n") > 1 or b'"error"' in lines):
                        continue
                return
            if self._master in ready:
                try:
                    seen += os.read(self._master, 4096)
                except OSError:
                    return
                if typed < len(self._answers) and self._answers[typed][0] in seen:
                    os.write(self._master, self._answers[typed][1] + b"\n")
                    typed += 1
                    number = ""  # who is asked more was let on: a portal that died after that never said so
                if shown := _NUMBER.search(seen):
                    seen, number = b"", shown[1].decode()
            if number and self._type_number(number):
                number = ""


class AtWindow(_Person):
    """Hands at a screen, where the agent opens its window."""

    def __init__(self, agent: DaemonProcess, pages: PortalPages, link: str, display: VirtualDisplay) -> None:
        """See the class."""
        super().__init__(agent, pages, link)
        self._display = display

    def begin(self) -> None:
        """``inlay open LINK``, as the browser calls it."""
        names = ("DISPLAY", "XAUTHORITY")
        environment = {name: self._display.env[name] for name in names}
        params = {"link": self._link, "environment": environment}
        self._connection.sendall(json.dumps({"method": "open", "params": params}).encode() + b"\n")
        self._answer = self._connection.recv(4096)
        self._thread.start()

    def _work(self) -> None:
        if not self._until(CONSENT_TITLE):
            return
        while not self._stopping.is_set() and not cursor_in_field(self._display):
            if not self._display.windows(CONSENT_TITLE):
                return
        pin = PIN.decode()
        for text, key in ((pin, "Tab"), (pin, "Return")):
            self._display.run("xdotool", "type", "--clearmodifiers", "--delay", "8", "--", text)
            self._display.run("xdotool", "key", "--clearmodifiers", key)
        if window := self._until(NUMBER_TITLE):
            title = self._display.run("xdotool", "getwindowname", window).stdout
            while title[:3].isdigit() and not self._stopping.is_set() and not self._type_number(title[:3]):
                self._stopping.wait(_TRY_AGAIN_SECONDS)

    def _until(self, title: str) -> str:
        """The window with that title, in front; empty when the hands are to stop first."""
        while not self._stopping.is_set():
            found = self._display.windows(title)
            if found and self._display.run("xdotool", "getactivewindow").stdout.strip() in found:
                return found[0]
            self._stopping.wait(_LOOK_SECONDS)
        return ""
