"""A daemon that records what it is asked and answers from a script, on the real private socket."""

from __future__ import annotations

import array
import json
import os
import socket
import threading
from collections.abc import Callable
from typing import Any, Self

from agent.desktop import paths

Answer = Callable[[dict[str, Any]], dict[str, Any]]


class FakeDaemon:
    """Listens where the agent would; each connection is one request.

    Attributes:
        requests: what was asked, in order.
        descriptors: what came beside the requests; closed by `__exit__`.
        after_hold: set to let a held command go on.
    """

    def __init__(
        self, answer: Answer | dict[str, Any], *, mode: int = 0o600, final: dict[str, Any] | None = None
    ) -> None:
        """Answer so; ``final`` comes after a hold."""
        self._final = {"result": {}} if final is None else final
        self._answer = answer if callable(answer) else lambda _request: answer
        self._mode = mode
        self.requests: list[dict[str, Any]] = []
        self.descriptors: list[int] = []
        self.after_hold = threading.Event()

    def __enter__(self) -> Self:
        paths.prepare_runtime_directory()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(paths.socket_path())
        os.chmod(paths.socket_path(), self._mode)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        os.unlink(paths.socket_path())
        for descriptor in self.descriptors:
            os.close(descriptor)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self._one(connection)

    def _one(self, connection: socket.socket) -> None:
        data = b""
        while not data.endswith(b"\n"):
            piece, beside, _, _ = connection.recvmsg(65536, socket.CMSG_LEN(4))
            if not piece:
                return
            data += piece
            for _, _, content in beside:
                descriptors = array.array("i")
                descriptors.frombytes(content)
                self.descriptors.extend(descriptors)
        request = json.loads(data)
        self.requests.append(request)
        answer = self._answer(request)
        if answer.get("result", {}).get("hold"):
            connection.sendall(b'{"result":{"hold":true}}\n')
            self.after_hold.wait()
            answer = self._final
        connection.sendall(json.dumps(answer, separators=(",", ":")).encode() + b"\n")
