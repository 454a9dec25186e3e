"""The way from a command to the daemon: its private socket, and starting it when nobody listens.

One JSON line goes out, ``{"method": …, "params": {…}}``, with the terminal's descriptor beside it where
there is one; one line comes back, ``{"result": …}`` or ``{"error": {…}}``. When the answer takes a person, the
first line is ``{"result": {"hold": true}}``: the command then stays in the foreground until the second
line, so that the shell doesn't read what is typed for the agent.

Standard library only, and as little of it as possible: this is on the path from a click.
"""

from __future__ import annotations

import _socket
import os
import sys

from agent.desktop import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping  # the typing module itself would cost a click some milliseconds

MAX_ANSWER_BYTES = 1 << 20
START_SECONDS = 20
ANSWER_SECONDS = 30

_SO_PEERCRED = 17
_DAEMON_ENVIRONMENT = (
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "PATH",
    "TMPDIR",
    "TZ",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "LC_MESSAGES",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "XDG_STATE_HOME",
    "XDG_DATA_HOME",
    "XDG_CACHE_HOME",
    "XDG_DATA_DIRS",
    "XDG_CONFIG_DIRS",
    "XDG_SESSION_ID",
    "DBUS_SESSION_BUS_ADDRESS",
    "PCSCLITE_CSOCK_NAME",
)
"""What the daemon inherits. No display: windows get that of the caller who asked, each time."""


class AgentUnreachable(Exception):
    """The agent could not be reached, or gave no answer.

    Attributes:
        code: of `agent.desktop.causes`: ``agent_…`` or ``socket_…``.
        happened: what happened, for a person.
        why: why it happened.
        next_step: what to do now.
    """

    def __init__(self, code: str, **fields: str | int | None) -> None:
        from agent.desktop.causes import told  # late: a click that is answered needs no texts

        super().__init__(code)
        self.code, self.happened, self.why, self.next_step = told(code, **fields)

    def __str__(self) -> str:
        return f"{self.code}: {self.why}"


def connect() -> _socket.socket | None:
    """Connect to the daemon; None when none is running.

    Raises:
        AgentUnreachable: the folder, the socket or the process behind it isn't this user's.
    """
    path = paths.socket_path()
    try:
        paths.check_private(os.path.dirname(path), folder=True)
        paths.check_private(path, folder=False)
    except FileNotFoundError:
        return None
    except paths.UnsafePath as error:
        raise AgentUnreachable("socket_unsafe", path=error.path, reason=error.reason) from None
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        connection.connect(path)
    except (ConnectionRefusedError, FileNotFoundError):
        connection.close()
        return None
    except OSError as error:
        connection.close()
        reason = os.strerror(error.errno or 0)
        raise AgentUnreachable("agent_unreachable", path=path, reason=reason) from None
    credentials = connection.getsockopt(_socket.SOL_SOCKET, _SO_PEERCRED, 12)
    if int.from_bytes(credentials[4:8], sys.byteorder) != os.geteuid():
        connection.close()
        raise AgentUnreachable("socket_foreign", path=path)
    return connection


def connect_or_start() -> _socket.socket:
    """Connect to the daemon, starting it when none is running.

    Raises:
        AgentUnreachable: see `connect`; or it did not start.
    """
    connection = connect()
    if connection is not None:
        return connection
    status = _start_daemon()
    connection = connect()  # also when the start failed: another command may have started it meanwhile
    if connection is not None:
        return connection
    raise _unsafe(status) or AgentUnreachable("agent_not_started", status=status)


def _unsafe(status: int | None) -> AgentUnreachable | None:
    if status != paths.EXIT_UNSAFE:
        return None
    from agent.desktop.unsafe_folder import explain_start

    return explain_start()


def ask(
    connection: _socket.socket, method: str, parameters: Mapping[str, object], terminal: int | None = None
) -> bytes:
    """Send one request, and wait for the line that answers it; closes the connection.

    Args:
        connection: from `connect`.
        method: the daemon's method.
        parameters: JSON values.
        terminal: descriptor of the caller's terminal, handed over beside the request.

    Returns:
        The last line of the answer, without its newline.

    Raises:
        AgentUnreachable: the connection broke, or nothing came in time.
    """
    request = f'{{"method":{_encode(method)},"params":{_encode(parameters)}}}\n'.encode("ascii")
    beside = (
        [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, terminal.to_bytes(4, sys.byteorder))]
        if terminal is not None
        else []
    )
    try:
        connection.settimeout(ANSWER_SECONDS)
        sent = connection.sendmsg([request], beside)
        if sent < len(request):
            connection.sendall(request[sent:])
        line, rest = _read_line(connection, b"")
        if _holds(line):
            connection.settimeout(None)
            line, _ = _read_line(connection, rest)
    except OSError:
        raise AgentUnreachable("agent_silent", seconds=ANSWER_SECONDS) from None
    finally:
        connection.close()
    return line


def _holds(line: bytes) -> bool:
    return line.startswith(b'{"result":') and b'"hold":true' in line


def _read_line(connection: _socket.socket, buffered: bytes) -> tuple[bytes, bytes]:
    """Read up to a newline; returns the line and what came behind it."""
    while b"\n" not in buffered:
        piece = connection.recv(65536)
        if not piece or len(buffered) > MAX_ANSWER_BYTES:
            raise ConnectionResetError
        buffered += piece
    line, _, rest = buffered.partition(b"\n")
    return line, rest


def _encode(value: object) -> str:
    """JSON text of strings, booleans, None and dictionaries of them; all that requests are made of."""
    from _json import encode_basestring_ascii

    if isinstance(value, str):
        return str(encode_basestring_ascii(value))
    if isinstance(value, dict):
        return "{" + ",".join(f"{_encode(str(key))}:{_encode(item)}" for key, item in value.items()) + "}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    raise TypeError(type(value).__name__)


def _start_daemon() -> int | None:
    """Start the daemon in its own session and wait until it listens.

    Returns:
        None when it said that it listens; else the exit status of the process.

    Raises:
        AgentUnreachable: it neither listened nor ended in time; it is ended then.
    """
    import select
    import subprocess

    ready, told = os.pipe()
    environment = {name: os.environ[name] for name in _DAEMON_ENVIRONMENT if name in os.environ}
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-m", "agent", "--ready-fd", str(told)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=environment,
            pass_fds=(told,),
            start_new_session=True,
        )
    finally:
        os.close(told)
    try:
        if not select.select([ready], [], [], START_SECONDS)[0]:
            raise _given_up(process)
        listening = bool(os.read(ready, 16))
    finally:
        os.close(ready)
    if listening:
        process.returncode = 0  # it outlives this command on purpose
        return None
    try:
        return process.wait(START_SECONDS)
    except subprocess.TimeoutExpired:
        raise _given_up(process) from None


def _given_up(process: subprocess.Popen[bytes]) -> AgentUnreachable:
    process.kill()
    process.wait()
    return AgentUnreachable("agent_not_listening", seconds=START_SECONDS)
