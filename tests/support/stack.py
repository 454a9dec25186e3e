"""A portal, and the agents of people who use it, every part real, each in a folder of its own.

For demo and tests. What isn't here: a screen (`tests.support.display`), a browser
(`tests.support.browser`), and pcscd, which is the test run's own or the machine's.
"""

from __future__ import annotations

import secrets
import socket
from typing import TYPE_CHECKING, Self

from tests.support.certificates import ThrowAwayCA
from tests.support.installed_agent import InstalledAgent
from tests.support.keystore import KeyStore
from tests.support.portal_process import Account, PortalProcess

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ANY_LEVEL = {"StorageLevels": "tpm,keystore,file"}
"""Option of *Get virtual smart card* for machines without a key store."""


class Site:
    """A portal with https by a throw-away CA.

    Attributes:
        ca: the CA.
        portal: the portal.
        administrator: who may set options.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        host: str = "localhost",
        outlives: bool = False,
        mail: Mapping[str, object] | None = None,
    ) -> None:
        """Lay out the folder; nothing is started yet.

        Args:
            folder: existing and empty.
            port: on 127.0.0.1; any free one when left out.
            host: the portal's name in the address bar.
            outlives: the portal goes on when this process ends.
            mail: the portal's mail server, as its configuration names it; None: it sends no mail.
        """
        self.ca = ThrowAwayCA(folder)
        self.portal = PortalProcess(
            folder, self.ca, port=port or free_port(), host=host, outlives=outlives, mail=mail
        )
        self.administrator = Account(
            "admin@example.org", "Demo administrator", password(), ("administrator", "self-service")
        )

    def prepare(self, *users: Account, options: Mapping[str, str] | None = None) -> None:
        """Make keys, database and accounts, and set options of *Get virtual smart card*."""
        self.portal.prepare([self.administrator, *users], options)


class Desk:
    """A person's account on this machine: a home, a key store, an agent.

    Attributes:
        home: the person's home: agent, browser profile, link handler.
        agent: the agent.
        keystore: the key store.
        level: where the device secret is kept, ``keystore`` or ``file``; known after ``start``.
    """

    def __init__(self, folder: Path, env: Mapping[str, str], *, outlives: bool = False) -> None:
        """Lay out the folder; nothing is started yet.

        Args:
            folder: existing and empty; its path short enough for a socket's name.
            env: environment to build the person's upon: the screen's.
            outlives: agent and key store go on when this process ends.
        """
        self.home = folder / "home"
        self.home.mkdir(mode=0o700)
        runtime = self.home / "runtime"
        runtime.mkdir(mode=0o700)
        own = {name: value for name, value in env.items() if not name.startswith("XDG_")}
        own |= {"HOME": str(self.home), "XDG_RUNTIME_DIR": str(runtime)}
        own.pop("DBUS_SESSION_BUS_ADDRESS", None)
        self.agent = InstalledAgent(folder, own, outlives=outlives)
        self.keystore = KeyStore(folder, own, outlives=outlives)
        self.level = "file"

    def start_keystore(self) -> Self:
        """Start the key store; ``level`` says then whether there is one."""
        if self.keystore.start():
            self.level = "keystore"
            self.agent.env["DBUS_SESSION_BUS_ADDRESS"] = self.keystore.address
        return self

    def start(self) -> Self:
        """Register the link handler and start the agent."""
        self.agent.register()
        self.agent.start()
        return self

    def trust(self, site: Site) -> None:
        """Trust a portal: its root key by its fingerprint, its TLS by the throw-away CA and no other."""
        how = ("--ca-file", str(site.ca.ca_file), "--fingerprint", site.portal.fingerprint)
        self.agent.ask("trust", "add", site.portal.origin, *how)

    def stop(self) -> None:
        """End agent and key store."""
        self.agent.stop()
        self.keystore.stop()

    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        return {"agent": self.agent.pid, **self.keystore.pids()}


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def password() -> str:
    """A random password that a keyboard of any layout types."""
    return "-".join(secrets.token_hex(2) for _ in range(4))
