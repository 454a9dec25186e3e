"""The window's own short-lived process: ``python -I -m agent.desktop.dialogs --control FD --secret FD``.

It shows what the daemon sends over the control socket and answers with events. The PIN leaves it as
bytes over the secret socket and no other way. It ends with the window.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import tkinter as tk
from collections import deque
from types import TracebackType
from typing import Any, NoReturn

from agent.desktop import dialog_messages as messages
from agent.desktop import window_card_pages as card_pages
from agent.desktop import window_pages as pages
from agent.desktop.causes import told
from agent.desktop.hardening import forbid_dumps
from agent.desktop.window_options import open_window
from agent.desktop.window_parts import Shell
from agent.desktop.window_theme import DesktopSettings, Theme, clamp_scale

RAISED_MS = 400
"""How long the window is kept above all others after it was raised."""

ASK_AGAIN_MS = 500
"""After which a window that isn't on the screen yet asks for it again."""

FINAL_PAGES = ("details", "card", "done", "error")
"""Pages whose closing is no cancellation."""


OWN_COMMAND = "At your own command, on this computer"


class Dialogs:
    """The window, driven by messages."""

    def __init__(
        self, root: tk.Tk, theme: Theme, control: socket.socket, secret: socket.socket | None
    ) -> None:
        self._root = root
        self._control = control
        self._secret = secret
        self._buffered = b""
        self._waiting: deque[Any] = deque()
        self._showing = False
        self._page = "none"
        self._heading = "Inlay"
        self._working = ""
        self._can_cancel = True
        self._asking = ""
        self._progress: pages.ProgressPage | None = None
        self._consent: pages.ConsentPage | None = None
        self._choice: card_pages.ChoosePage | None = None
        self._shell = Shell(root, theme)
        root.protocol("WM_DELETE_WINDOW", self._leave)
        root.bind("<FocusIn>", self._focused, add=True)
        root.tk.createfilehandler(control, tk.READABLE, lambda _file, _mask: self._readable())
        self._tell({"event": "ready"})

    # --- the control socket ---

    def _readable(self) -> None:
        try:
            piece = self._control.recv(65536)
        except ConnectionResetError:  # it ended without having read all that was told
            piece = b""
        if not piece:
            self._root.tk.deletefilehandler(self._control)
            self._waiting.append(None)
        *lines, self._buffered = (self._buffered + piece).split(b"\n")
        self._waiting.extend(json.loads(line) for line in lines)
        if self._showing:
            return  # called while the page before waits for the screen: it goes on with these
        self._showing = True
        while self._waiting:
            self._show(self._waiting.popleft())
        self._showing = False

    def _tell(self, event: messages.Event) -> None:
        with contextlib.suppress(OSError):  # the agent is gone: `_readable` says so on the screen
            self._control.sendall(json.dumps(event).encode("ascii") + b"\n")

    def _show(self, message: Any) -> None:
        """Show what a message asks for; its types are `dialog_messages.ToWindow`, None is the end of them."""
        if message is None:
            if self._page not in FINAL_PAGES:
                self._turn_to("error", _agent_stopped())
            return
        kind = message["show"]
        if kind == "close":
            self._end()
        elif kind == "raise":
            self._to_front()
        else:
            self._turn_to(kind, message)

    def _turn_to(self, kind: str, message: Any) -> None:
        same_page = kind == self._page
        self._page = kind
        self._can_cancel = bool(message.get("can_cancel", True))
        self._build(kind, message, anew=not same_page)
        self._shell.settle()
        if not same_page:
            self._appear()
        elif kind == "choose":
            self._root.update()  # a row that isn't on the screen yet takes no key
            self._tell({"event": "shown", "page": self._page})

    def _build(self, kind: str, message: Any, *, anew: bool) -> None:
        if kind == "consent":
            self._heading = message["title"]
            self._working = message["working"]
            self._shell.name_portal(message["portal_name"], message["origin"] or OWN_COMMAND)
            self._consent = pages.ConsentPage(self._shell, message, self._agreed, self._leave)
        elif kind == "number":
            pages.NumberPage(self._shell, message, self._leave)
        elif kind == "progress":
            if self._progress is None or anew:
                self._progress = pages.ProgressPage(self._shell, self._heading, self._leave)
            self._progress.show(message)
        elif kind == "details":
            pages.DetailsPage(self._shell, message, self._receive_puk(message["has_puk"]), self._leave)
        elif kind == "choose":
            self._show_choice(message, anew=anew)
        elif kind == "card":
            card_pages.CardPage(self._shell, message, self._acted, self._leave)
        elif kind == "done":
            card_pages.DonePage(self._shell, message, self._leave)
        elif kind == "error":
            pages.ErrorPage(self._shell, message, self._leave)
        elif kind == "code":
            pages.CodePage(self._shell, message, self._code_entered, self._leave)

    def _show_choice(self, message: messages.Choose, *, anew: bool) -> None:
        if anew or self._choice is None or message["note"] is None:
            self._choice = card_pages.ChoosePage(self._shell, message, self._chosen, self._leave)
        else:
            self._choice.show(message)

    def _appear(self) -> None:
        """Map the window; pages that a person must act upon come to the front."""
        if not self._root.winfo_viewable():
            self._ask_for_the_screen()
            self._root.wait_visibility()  # before that the window can neither be measured nor focused
            self._root.after_cancel(self._asking)
            self._root.update()
            self._shell.settle()
        self._root.update()
        self._shell.first.focus_set()  # only now: what isn't on the screen can't take it
        if self._page != "progress":
            self._to_front()
        self._root.update()
        self._tell({"event": "shown", "page": self._page})

    def _ask_for_the_screen(self) -> None:
        """Ask the window manager for the window, again and again.

        A request can be overlooked where the session has just begun: openbox leaves what came before its main loop
        ran unread until the display tells it something more. To ask again is harmless.
        """
        self._root.deiconify()
        self._asking = self._root.after(ASK_AGAIN_MS, self._ask_for_the_screen)

    def _focused(self, event: tk.Event[tk.Misc]) -> None:
        if event.widget is self._root and self._consent is not None:  # the window itself, not a field of it
            self._consent.wait()

    def _to_front(self) -> None:
        if self._consent is not None:
            self._consent.wait()
        self._root.deiconify()
        self._root.attributes("-topmost", True)
        self._root.lift()
        (self._root.focus_lastfor() or self._root).focus_force()
        self._root.after(RAISED_MS, self._among_others)

    def _among_others(self) -> None:
        """The window has been seen in front; only the number stays there while the page is typed into."""
        if self._page != "number":  # asked now: the number may have come since the window was raised
            self._root.attributes("-topmost", False)

    # --- what the person does ---

    def _agreed(self, secrets: list[bytearray]) -> None:
        for secret in secrets:
            self._send_secret(secret)
        self._tell({"event": "consented"})
        self._turn_to(
            "progress",
            {"step_id": "started", "text": self._working, "done": 0, "total": 1, "can_cancel": True},
        )

    def _chosen(self, card: str) -> None:
        self._tell({"event": "chosen", "card": card})

    def _acted(self, action: str) -> None:
        self._tell({"event": "action", "action": action})

    def _code_entered(self, portal: str, code: str) -> None:
        self._tell({"event": "code", "portal": portal, "code": code})
        self._end()

    def _leave(self) -> None:
        """Cancel, Close, Escape, or the window manager's cross."""
        if self._page in FINAL_PAGES:
            self._tell({"event": "closed"})
        elif not self._can_cancel:
            self._tell({"event": "hidden"})
            self._root.withdraw()
            return
        else:
            self._tell({"event": "cancelled", "step": self._page})
        self._end()

    def _end(self) -> NoReturn:
        # without Tk's own clean-up, which would still run callbacks; the kernel closes the window
        os._exit(0)

    # --- secrets ---

    def _send_secret(self, secret: bytearray) -> None:
        if self._secret is None:
            raise RuntimeError("no secret socket")
        try:
            self._secret.sendall(bytes((len(secret),)))
            self._secret.sendall(secret)
        finally:
            secret[:] = bytes(len(secret))

    def _receive_puk(self, expected: bool) -> bytearray | None:
        if not expected or self._secret is None:
            return None
        puk = bytearray(self._secret.recv(1)[0])
        self._secret.recv_into(puk, len(puk), socket.MSG_WAITALL)
        return puk


def _agent_stopped() -> messages.Failure:
    code, happened, why, next_step = told("agent_stopped")
    return {"show": "error", "code": code, "happened": happened, "why": why, "next_step": next_step}


def main(arguments: list[str]) -> int:
    """Run one window.

    Args:
        arguments: ``--control FD [--secret FD] [--appearance light|dark] [--scale FACTOR]``.

    Returns:
        The exit status; `dialog_messages.EXIT_NO_DISPLAY` when the display can't be opened.
    """
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    sys.excepthook = _report
    forbid_dumps()
    settings = DesktopSettings()
    try:
        root = open_window("Inlay")
    except tk.TclError:
        return messages.EXIT_NO_DISPLAY
    _take_no_commands(root)
    root.withdraw()
    setattr(root, "report_callback_exception", _fail)  # noqa: B010 (tkinter's documented hook)
    dark, scale = settings.read()
    if "--appearance" in options:
        dark = options["--appearance"] == "dark"
    if "--scale" in options:
        scale = clamp_scale(float(options["--scale"]))
    theme = Theme(root, dark=dark, scale=scale)
    control = socket.socket(fileno=int(options["--control"]))
    secret = socket.socket(fileno=int(options["--secret"])) if "--secret" in options else None
    Dialogs(root, theme, control, secret)
    root.mainloop()
    return 0


def _take_no_commands(root: tk.Tk) -> None:
    """Leave Tk's registry of programs that do what others on the display send them.

    Each Tk program enters it by itself, and whoever may talk to the display could have this one run any command,
    the one that reads the PIN's field among them. Without ``send`` it is neither named there nor listens
    (send(n), "Security").
    """
    root.tk.call("rename", "send", "")


def _report(kind: type[BaseException], _error: BaseException, trace: TracebackType | None) -> None:
    """Name the fault and the place, never the values: one of them could be a PIN."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}" if trace else "?"
    sys.stderr.write(f"inlay window: {kind.__name__} at {place}\n")
    sys.stderr.flush()


def _fail(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A fault inside a callback ends the process, so that the agent learns of it."""
    _report(kind, error, trace)
    os._exit(1)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
