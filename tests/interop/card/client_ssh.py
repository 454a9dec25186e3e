"""OpenSSH with OpenSC's PKCS#11 module: listing, and an agent on a private socket."""

from __future__ import annotations

import contextlib
import stat
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agent.vsc import personalise
from tests.interop.card.clients import MODULE, PIN_TEXT, Client, Operation
from tests.support.processes import Child

if TYPE_CHECKING:
    from collections.abc import Iterator


def _line(client: Client) -> str:
    public = personalise.public_key(client.card, 0x9A)
    return public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def _list(client: Client) -> None:
    assert _line(client) in client.run("ssh-keygen", "-D", MODULE)


@contextlib.contextmanager
def _agent(client: Client) -> Iterator[dict[str, str]]:
    """An agent that holds the card's keys; what its clients need in their environment."""
    socket = client.path("ssh-agent.sock")
    argv = ["ssh-agent", "-D", "-a", str(socket), "-P", "/usr/lib/*"]
    with Child(argv, log=client.path("ssh-agent.log"), env=client.env) as agent:
        agent.wait_until(socket.is_socket, "ssh-agent's socket")
        ask = client.write("askpass", f"#!/bin/sh\necho {PIN_TEXT}\n".encode())
        ask.chmod(stat.S_IRWXU)
        env = {"SSH_AUTH_SOCK": str(socket), "SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"}
        client.run("ssh-add", "-s", MODULE, env=env)
        try:
            yield env
        finally:
            client.run("ssh-add", "-e", MODULE, env=env)


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
    Operation("ssh-agent", "sign a challenge (9A)", _sign),
    Operation("ssh-agent", "twenty signatures by one PIN", _many),
]
