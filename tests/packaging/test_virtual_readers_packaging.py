"""The reader configuration, the rule that keeps its ports local, and their installer."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.pcscd import PACKAGING, READER_CONF, listening_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.pcscd import PrivatePcscd

INSTALL = PACKAGING / "install-readers"
DEBIAN_SAMPLE = Path("/etc/reader.conf.d/vpcd")
DRIVER = "/usr/lib/pcsc/drivers/serial/libifdvpcd.so"


@pytest.fixture
def installed(pcscd: PrivatePcscd) -> Iterator[PrivatePcscd]:
    """The run's pcscd, its readers installed again and running afterwards."""
    yield pcscd
    DEBIAN_SAMPLE.unlink(missing_ok=True)
    subprocess.run([INSTALL, "--readers-only"], check=True)
    pcscd.restart()


def test_ports_are_below_the_range_for_outgoing_connections() -> None:
    """Otherwise another program's connection could hold a slot's port."""
    ports = [
        int(line.split("0x")[1], 16) for line in READER_CONF.read_text().splitlines() if "/dev/null:" in line
    ]
    assert len(ports) == 4
    assert all(port > 1024 and port + 1 < 32768 for port in ports)


def test_each_entry_has_a_library_of_its_own() -> None:
    """Two entries that share vpcd's library file share its slots, and only the last one works."""
    libraries = [
        line.split()[1] for line in READER_CONF.read_text().splitlines() if line.startswith("LIBPATH")
    ]
    assert len(set(libraries)) == 4
    assert DRIVER not in libraries


def test_loopback_rules_name_all_ports() -> None:
    """The nft rule covers every port of the configuration; the systemd rule covers all there are."""
    assert "28304-28311" in (PACKAGING / "inlay-vpcd.nft").read_text()
    unit = (PACKAGING / "pcscd-loopback.conf").read_text()
    assert unit.endswith("[Service]\nIPAddressDeny=any\nIPAddressAllow=localhost\n")


def test_unknown_option_changes_nothing() -> None:
    """A mistyped option shows the usage."""
    done = subprocess.run([INSTALL, "--purge"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "install-readers --remove" in done.stderr


@pytest.mark.interop
def test_remove_leaves_nothing(installed: PrivatePcscd) -> None:
    """No configuration, no driver copy, no port."""
    installed.stop()
    subprocess.run([INSTALL, "--remove"], check=True, capture_output=True)
    assert not Path("/etc/reader.conf.d/inlay").exists()
    assert [path.name for path in Path(DRIVER).parent.glob("libifdvpcd-*")] == []
    assert not set(installed.vpcd_ports) & listening_ports()


@pytest.mark.interop
def test_missing_driver_is_named(installed: PrivatePcscd) -> None:
    """Without vpcd the package to install is named, and nothing is installed."""
    installed.stop()
    subprocess.run([INSTALL, "--remove"], check=True, capture_output=True)
    hidden = Path(DRIVER).rename(DRIVER + ".hidden")
    try:
        done = subprocess.run([INSTALL], capture_output=True, text=True, check=False)
    finally:
        hidden.rename(DRIVER)
    assert done.returncode == 1
    assert "install the package vsmartcard-vpcd" in done.stderr
    assert not Path("/etc/reader.conf.d/inlay").exists()


@pytest.mark.interop
def test_debian_sample_entry_can_stay(installed: PrivatePcscd) -> None:
    """The two slots that vsmartcard-vpcd itself configures work beside ours."""
    DEBIAN_SAMPLE.write_text(
        f'FRIENDLYNAME "Virtual PCD"\nDEVICENAME   /dev/null:0x8C7B\nLIBPATH      {DRIVER}\nCHANNELID    0x8C7B\n'
    )
    installed.restart()
    assert {0x8C7B, 0x8C7C, *installed.vpcd_ports} <= listening_ports()
    readers = installed.run(["opensc-tool", "-l"]).stdout
    assert readers.count("Inlay Virtual Reader") == 8
    assert readers.count("Virtual PCD") == 2
