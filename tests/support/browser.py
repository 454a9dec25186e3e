"""A real Chromium with a throw-away profile, on the test run's own screen.

It is started as a person's would be: Debian's launcher, a window, no automation switches that
change what a page may do; Playwright only attaches to it afterwards, to look at pages and click.
The CA under test is trusted through the profile's own certificate database, so nothing about TLS
is switched off.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.async_api import async_playwright, expect

from tests.support import isolation
from tests.support.processes import Child

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from playwright.async_api import BrowserContext

    from tests.support.display import VirtualDisplay

expect.set_options(timeout=20_000)  # a busy machine is no fault of the page
CHROMIUM = "/usr/bin/chromium"
MANAGED_POLICIES = Path("/etc/chromium/policies/managed")

_BLOCK = 2  # a content setting of Chromium

_QUIET = (
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--password-store=basic",
    "--disable-gpu",
    "--window-position=0,0",
    "--window-size=1200,960",
)


@dataclass(frozen=True)
class Portal:
    """Where the page under test is, and how far away the browser shall believe it to be.

    Attributes:
        port: of the https server on 127.0.0.1.
        host: its name in the address bar.
        public: whether the browser takes the server for one on the internet: only then does a
            connection from its page to loopback need a permission.
    """

    port: int
    host: str = "portal.test"
    public: bool = True

    @property
    def origin(self) -> str:
        """As pages, policies and the agent name it."""
        return f"https://{self.host}:{self.port}"

    def flags(self) -> list[str]:
        """Chromium switches that put the host name on this machine."""
        flags = [f"--host-resolver-rules=MAP {self.host} 127.0.0.1"]
        if self.public:
            flags.append(f"--ip-address-space-overrides=127.0.0.1:{self.port}=public")
        return flags


@dataclass
class Policies:
    """Managed policies, as an administrator sets them; written in the run's namespaces only.

    Attributes:
        values: policy name to value.
    """

    values: dict[str, object] = field(default_factory=dict)

    def allow_loopback(self, origin: str) -> Policies:
        """Pages of ``origin`` reach programs on this machine without a question."""
        for name in ("LoopbackNetworkAllowedForUrls", "LocalNetworkAccessAllowedForUrls"):
            self.values[name] = [origin]
        return self

    def block_loopback(self, origin: str) -> Policies:
        """Pages of ``origin`` never reach programs on this machine."""
        for name in ("LoopbackNetworkBlockedForUrls", "LocalNetworkAccessBlockedForUrls"):
            self.values[name] = [origin]
        return self

    def launch_links(self, scheme: str, origin: str) -> Policies:
        """Links of ``scheme`` on pages of ``origin`` open their program without a question."""
        self.values["AutoLaunchProtocolsFromOrigins"] = [{"protocol": scheme, "allowed_origins": [origin]}]
        return self

    def install(self) -> None:
        """Write them where Chromium looks when it starts.

        Raises:
            RuntimeError: not in namespaces of the run's own: they would count for the whole machine.
        """
        if not isolation.entered():
            raise RuntimeError("managed policies need the test run's own namespaces")
        MANAGED_POLICIES.mkdir(parents=True, exist_ok=True)
        (MANAGED_POLICIES / "inlay-test.json").write_text(json.dumps(self.values))

    @staticmethod
    def remove() -> None:
        """Take them away again."""
        (MANAGED_POLICIES / "inlay-test.json").unlink(missing_ok=True)


@asynccontextmanager
async def chromium(
    display: VirtualDisplay,
    home: Path,
    *,
    portal: Portal,
    ca_file: Path,
    policies: Policies | None = None,
    block_loopback: bool = False,
    extra: Sequence[str] = (),
) -> AsyncIterator[BrowserContext]:
    """Run Chromium while the ``async with`` block runs.

    Args:
        display: where its window is.
        home: an existing folder, its ``HOME``: profile, certificates, link handlers.
        portal: the server of the page under test.
        ca_file: PEM of the root that signed the server's certificate.
        policies: managed policies for this run of the browser.
        block_loopback: the profile is one whose owner blocks connections of pages to this machine.
        extra: further switches.

    Yields:
        The browser's only context; ``context.pages[0]`` is its first tab.
    """
    await asyncio.to_thread(trust, home, ca_file)
    port_file = _profile(home, block_loopback=block_loopback) / "DevToolsActivePort"
    port_file.unlink(missing_ok=True)
    flags = [*_flags(home, portal), "--remote-debugging-port=0", *extra]
    if policies is not None:
        policies.install()
    child = Child([CHROMIUM, *flags, "about:blank"], log=home / "chromium.log", env=home_env(display, home))
    try:
        await asyncio.to_thread(child.wait_until, lambda: _complete(port_file), "Chromium", seconds=30)
        port = port_file.read_text().splitlines()[0]
        async with async_playwright() as playwright:
            browser = await playwright.chromium.connect_over_cdp(f"http://127.0.0.1:{port}")
            yield browser.contexts[0]
            await browser.close()
    finally:
        await asyncio.to_thread(child.stop)
        if policies is not None:
            Policies.remove()


def _complete(port_file: Path) -> bool:
    return port_file.exists() and "\n" in port_file.read_text()


def home_env(display: VirtualDisplay, home: Path) -> dict[str, str]:
    """The environment of a program of the person who sits at ``display`` and owns ``home``."""
    env = {name: value for name, value in display.env.items() if not name.startswith("XDG_")}
    runtime = home / "runtime"
    runtime.mkdir(mode=0o700, exist_ok=True)
    return env | {"HOME": str(home), "XDG_RUNTIME_DIR": str(runtime)}


def person_command(home: Path, portal: Portal, ca_file: Path, address: str) -> list[str]:
    """The command by which a person's Chromium opens ``address``, made ready to be run."""
    trust(home, ca_file)
    return [CHROMIUM, *_flags(home, portal), address]


def _flags(home: Path, portal: Portal) -> list[str]:
    flags = [*_QUIET, *portal.flags(), f"--user-data-dir={_profile(home)}"]
    if os.geteuid() == 0:
        flags.append("--no-sandbox")  # Chromium refuses to start as root with its sandbox
    return flags


def _profile(home: Path, *, block_loopback: bool = False) -> Path:
    """The browser's profile in ``home``, made if it isn't there."""
    preferences = home / "profile" / "Default" / "Preferences"
    if not preferences.exists():
        preferences.parent.mkdir(parents=True, exist_ok=True)
        defaults = {"loopback_network": _BLOCK} if block_loopback else {}
        profile = {"password_manager_enabled": False, "default_content_setting_values": defaults}
        # the password manager would lay its question over the other questions
        preferences.write_text(json.dumps({"credentials_enable_service": False, "profile": profile}))
    return home / "profile"


def trust(home: Path, ca_file: Path) -> None:
    """Put ``ca_file`` into the certificate database of ``home``, made if it isn't there."""
    database = home / ".pki" / "nssdb"
    shutil.rmtree(database, ignore_errors=True)
    database.mkdir(parents=True)
    for command in (
        ["-N", "--empty-password"],
        ["-A", "-t", "C,,", "-n", "throw-away", "-i", str(ca_file)],
    ):
        argv = ["certutil", "-d", f"sql:{database}", *command]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
