"""The process that loads a vendor's PKCS#11 module: the one place where foreign code runs in a card's name.

A module may crash, hang, or print what it likes: all of that stays in here. The agent (``agent.pcsc.pkcs11``) starts
this process for one module, sends one call at a time, gives each a deadline, and starts another process when this one
is gone. Nothing is decided here: a call is a PKCS#11 call or a short row of them, and what the module refuses goes back
as the number of its answer (PKCS#11 v3.1, section 5.1.6) and the name of the function.

Frames on both pipes: four bytes of length, then JSON; bytes are hexadecimal. It ends with the agent, or at the end of
its input.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from PyKCS11 import PyKCS11Error

from agent.pcsc.pkcs11_child_keys import Keys
from agent.pcsc.pkcs11_child_objects import NotThereError

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_FRAME: Final = 1 << 20
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4

Module = Keys
"""A module with all that can be asked of it: keys stand on objects, and those on tokens and sessions."""
OPERATIONS: Final[dict[str, Callable[..., Any]]] = {
    function.__name__: function
    for function in (
        Module.tokens,
        Module.mechanisms,
        Module.open,
        Module.close,
        Module.login,
        Module.logout,
        Module.init_token,
        Module.init_pin,
        Module.set_pin,
        Module.objects,
        Module.certificate,
        Module.certificates,
        Module.public_key,
        Module.generate,
        Module.import_key,
        Module.unwrap_key,
        Module.write_certificate,
        Module.delete_certificates,
        Module.delete,
        Module.wants_pin,
        Module.sign,
        Module.decrypt,
        Module.agree,
    )
}
"""What the agent may ask for; each is called with the module and the request's arguments."""


def _answer(module: Module, request: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"result": OPERATIONS[request["operation"]](module, **request["arguments"])}
    except PyKCS11Error as refusal:
        return {"refused": int(refusal.value), "call": module.call}
    except NotThereError:
        return {"missing": True, "call": module.call}


def _read(pipe: BinaryIO) -> dict[str, Any] | None:
    head = pipe.read(4)
    if len(head) < 4:
        return None
    length = int.from_bytes(head, "big")
    if length > MAX_FRAME:
        return None
    frame: dict[str, Any] = json.loads(pipe.read(length))
    return frame


def _write(pipe: BinaryIO, frame: dict[str, Any]) -> None:
    text = json.dumps(frame).encode()
    pipe.write(len(text).to_bytes(4, "big") + text)
    pipe.flush()


def _alone() -> None:
    """End with the agent, and leave nothing of a PIN to core files or to other programs of this user."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) or prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
        sys.exit(3)


def main() -> int:
    """Serve one module, whose path is the only argument.

    Returns:
        Exit status: 0 at the end of the input, 2 when the module can't be loaded.
    """
    _alone()
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1):  # what a module prints must not be taken for an answer
        os.dup2(nothing, number)
    try:
        module = Module(sys.argv[1])
    except PyKCS11Error as refusal:
        _write(answers, {"refused": int(refusal.value), "call": "load"})
        return 2
    _write(answers, {"result": "loaded"})
    while (request := _read(requests)) is not None:
        _write(answers, _answer(module, request))
    module.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
