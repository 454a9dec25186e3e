"""OpenSSH with OpenSC's PKCS#11 module: listing, logging in, and an agent on a private socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import stat
import threading
from functools import partial
from typing import TYPE_CHECKING, Final

import asyncssh
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agent.vsc import personalise
from tests.interop.card.clients import MODULE, PIN_TEXT, Client, Operation
from tests.support.processes import Child

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def _line(client: Client, slot: int = 0x9A) -> str:
    public = personalise.public_key(client.card, slot)
    return public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def _list(client: Client) -> None:
    assert _line(client) in client.run("ssh-keygen", "-D", MODULE)


class _LogIn(asyncssh.SSHServer):
    """Lets in who proves a key of the card, and nobody else."""

    def __init__(self, line: str) -> None:
        self._line = line

    def begin_auth(self, username: str) -> bool:
        """Everybody has to."""
        return True

    def public_key_auth_supported(self) -> bool:
        """The one way."""
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Whether the key may log in; that its holder has it, the server checks itself."""
        return key.export_public_key().decode().split()[:2] == self._line.split()[:2]


@contextlib.contextmanager
def _server(line: str) -> Iterator[int]:
    """An SSH server on loopback that says who is there; its port."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def listen() -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=lambda: _LogIn(line),
            server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
            process_factory=lambda process: process.exit(process.stdout.write("logged in\n") or 0),
        )

    async def close(server: asyncssh.SSHAcceptor) -> None:
        server.close()
        await server.wait_closed()

    server = asyncio.run_coroutine_threadsafe(listen(), loop).result(30)
    try:
        yield server.get_port()
    finally:
        asyncio.run_coroutine_threadsafe(close(server), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _log_in(client: Client, slot: int = 0x9A) -> None:
    """With another key of the card first, which may not; then with the one that may."""
    ask = _askpass(client)
    for line, fails in ((_line(client, 0x9C), True), (_line(client, slot), False)):
        with _server(line) as port:
            options = ["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
            only = ["-o", "IdentityAgent=none", "-o", "IdentityFile=none", "-o", f"PKCS11Provider={MODULE}"]
            # one key of the card is offered alone: the other one's server must not be let in by it
            key = client.write("offered.pub", _line(client, slot).encode())
            only += ["-o", "IdentitiesOnly=yes", "-i", str(key)]
            argv = ["ssh", *options, *only, "-p", str(port), "holder@127.0.0.1", "who"]
            said = client.run(*argv, fails=fails, env=ask)
            assert ("Permission denied" if fails else "logged in") in said


def _askpass(client: Client) -> dict[str, str]:
    """What types the PIN where a program of OpenSSH asks for it."""
    ask = client.write("askpass", f"#!/bin/sh\necho {PIN_TEXT}\n".encode())
    ask.chmod(stat.S_IRWXU)
    return {"SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"}


@contextlib.contextmanager
def _agent(client: Client) -> Iterator[dict[str, str]]:
    """An agent that holds the card's keys; what its clients need in their environment."""
    path = client.path("ssh-agent.sock")
    argv = ["ssh-agent", "-D", "-a", str(path), "-P", "/usr/lib/*"]
    with Child(argv, log=client.path("ssh-agent.log"), env=client.env) as agent:
        agent.wait_until(lambda: _listens(path), "ssh-agent's socket")
        env = {"SSH_AUTH_SOCK": str(path), **_askpass(client)}
        client.run("ssh-add", "-s", MODULE, env=env)
        try:
            yield env
        finally:
            client.run("ssh-add", "-e", MODULE, env=env)


def _listens(path: Path) -> bool:
    """Whether somebody listens at a socket, which is there some moments before."""
    with socket.socket(socket.AF_UNIX) as asking:
        return asking.connect_ex(str(path)) == 0


def _sign(client: Client) -> None:
    public, message = client.write("id.pub", _line(client).encode()), client.write("challenge", b"challenge")
    signature = client.path("challenge.sig")
    signature.unlink(missing_ok=True)
    with _agent(client) as env:
        assert _line(client) in client.run("ssh-add", "-L", env=env)
        client.run("ssh-keygen", "-Y", "sign", "-f", str(public), "-n", "test", str(message), env=env)
    allowed = client.write("allowed", b"holder " + _line(client).encode())
    verify = ["-I", "holder", "-n", "test", "-s", str(signature)]
    said = client.run("ssh-keygen", "-Y", "verify", "-f", str(allowed), *verify, stdin="challenge")
    assert "Good" in said


def _sign_9c(client: Client) -> None:
    """The agent never asks for a PIN before a signature: it can't use a key that wants one each time."""
    public, message = (
        client.write("id.pub", _line(client, 0x9C).encode()),
        client.write("challenge", b"challenge"),
    )
    signature = client.path("challenge.sig")
    signature.unlink(missing_ok=True)
    tries = client.card.details().pin_tries
    with _agent(client) as env:
        argv = ["ssh-keygen", "-Y", "sign", "-f", str(public), "-n", "test", str(message)]
        said = client.run(*argv, env=env, fails=True)
    assert "agent refused operation" in said or "not found in agent" in said, said
    assert not signature.exists()
    assert client.card.details().pin_tries == tries


def _many(client: Client) -> None:
    """The agent keeps the card open: twenty signatures by one PIN."""
    public = client.write("id.pub", _line(client).encode())
    with _agent(client) as env:
        for number in range(20):
            message = client.write(f"many-{number}", str(number).encode())
            client.run("ssh-keygen", "-Y", "sign", "-f", str(public), "-n", "test", str(message), env=env)
            client.path(f"many-{number}.sig").unlink()


OPERATIONS: Final = [
    Operation("ssh-keygen", "list keys by PKCS#11", _list),
    Operation("ssh", "log in to a server (9A)", _log_in),
    Operation("ssh", "log in to a server (9E)", partial(_log_in, slot=0x9E)),
    Operation("ssh-agent", "sign a challenge (9A)", _sign),
    Operation("ssh-agent", "sign a challenge (9C)", _sign_9c, "the agent gives no PIN before a signature"),
    Operation("ssh-agent", "twenty signatures by one PIN", _many),
]
