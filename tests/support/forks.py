"""A process that has imported everything and forks for each connection to its socket: a program starts in no time.

What a fork would share is not there yet when it happens: the process has one thread, no event loop, no open file but
its socket, and nothing of the agent but imported modules. Each fork makes its own loop, SQLite connection, TLS contexts
and sockets. Python's ``random`` and OpenSSL's generator notice a fork and seed themselves anew; ``secrets`` asks the
system each time. Every fork is a process like any other: what kills it kills all of it and nothing else.
"""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn


class SharedStateError(RuntimeError):
    """There is a second thread, whose locks and half-done work a fork would inherit."""


def serve(path: str, run: Callable[[socket.socket], None]) -> NoReturn:
    """Fork for every connection, for as long as this process lives.

    Args:
        path: of the socket, which isn't there yet.
        run: what a fork does with its connection; the fork ends with it.

    Raises:
        SharedStateError: see there.
    """
    gc.collect()
    gc.freeze()  # else the first collection of each fork copies all there is
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        while True:
            connection, _ = listening.accept()
            _bury()
            if len(os.listdir("/proc/self/task")) != 1:
                raise SharedStateError
            with connection:
                if os.fork() == 0:
                    listening.close()
                    _run(run, connection)


def _bury() -> None:
    """Forks that have ended; what they took of the processor counts as this process'."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue


def _run(run: Callable[[socket.socket], None], connection: socket.socket) -> NoReturn:
    status = 1
    try:
        run(connection)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(status)  # what the parent would do at its end is the parent's


def is_there(path: Path) -> bool:
    """Whether forks can be had."""
    return path.is_socket()
