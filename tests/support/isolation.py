"""Puts the test run into namespaces of its own, so that it meets nothing of this machine's state.

After :func:`enter` the process, and every program it starts, has

- a network with a loopback interface and nothing else: vpcd, which listens on every interface,
  can't be reached from outside, fixed ports can't clash with another run, and a test that asks
  the internet for something fails;
- an empty ``/run``: a pcscd or a D-Bus of the machine isn't seen, ``/run/pcscd`` is private;
- an empty ``/etc/reader.conf.d`` and private copies of the browser's policy folders: what tests
  write there never reaches the machine;
- no USB reader drivers, and a private copy of the serial ones: a private pcscd never takes a real
  reader from the machine's own pcscd, and the product's readers can be installed for the run.

As root this needs nothing further; any other user needs user namespaces, and is root in them.
In a chroot the root folder must be a mount point (bind it to itself before entering it): only then
can what is mounted here be kept from the machine outside.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import socket
import struct
import tempfile
from enum import IntFlag
from pathlib import Path

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000

_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1

_RESERVED_PORTS = "28304-28311,35963-35964"  # vpcd's: a test's free port is never one of them
_POLICY_PARENTS = ("/etc/chromium", "/etc/opt/chrome")
_READER_CONF = Path("/etc/reader.conf.d")
_OF_THE_DISPLAY = (Path("/tmp/.X11-unix"), Path("/var/lib/xkb"))  # noqa: S108
"""Files in them have the display's number in their names, and each run's first display has the same one."""
_DRIVERS = Path("/usr/lib/pcsc/drivers")
_HOSTS = Path("/etc/hosts")


class _Mount(IntFlag):
    BIND = 0x1000
    REC = 0x4000
    PRIVATE = 0x40000


class IsolationError(Exception):
    """The test run can't have namespaces of its own.

    Attributes:
        step: what was tried.
        errno: the system's answer.
    """

    def __init__(self, step: str, number: int) -> None:
        self.step = step
        self.errno = number
        super().__init__(step, number)

    def __str__(self) -> str:
        """Name step and answer."""
        return f"{self.step}: {os.strerror(self.errno)}"


class _State:
    entered = False


def entered() -> bool:
    """Whether this process is in namespaces that :func:`enter` made."""
    return _State.entered


def enter() -> None:
    """Move this process into namespaces of its own; once, before it starts threads or programs.

    Raises:
        IsolationError: the system refuses, for example user namespaces are switched off.
    """
    if _State.entered:
        return
    uid, gid = os.geteuid(), os.getegid()
    flags = _CLONE_NEWNS | _CLONE_NEWNET
    if uid != 0:
        flags |= _CLONE_NEWUSER
    _call("unshare", flags)
    if uid != 0:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    _keep_mounts_here()
    _raise_loopback()
    Path("/proc/sys/net/ipv4/ip_local_reserved_ports").write_text(_RESERVED_PORTS)
    _fresh_run()
    _own_names()
    _private_folders()
    _State.entered = True


def _keep_mounts_here() -> None:
    try:
        _call("mount", b"none", b"/", None, _Mount.REC | _Mount.PRIVATE, None)
    except IsolationError as refused:
        if refused.errno != errno.EINVAL:
            raise
        raise IsolationError("a root folder that is a mount point", refused.errno) from None


def _fresh_run() -> None:
    tmpfs(Path("/run"))
    for name, mode in (("lock", 0o1777), ("pcscd", 0o755), ("user", 0o755)):
        path = Path("/run") / name
        path.mkdir()
        path.chmod(mode)


def _own_names() -> None:
    if not _HOSTS.is_file():
        return
    names = Path("/run/hosts")
    names.write_text("127.0.0.1 localhost portal.test other.test\n::1 localhost\n")
    names.chmod(0o644)
    _call("mount", os.fsencode(names), os.fsencode(_HOSTS), None, _Mount.BIND, None)


def _private_folders() -> None:
    for folder in filter(Path.is_dir, _OF_THE_DISPLAY):
        tmpfs(folder, 0o1777)
    if _READER_CONF.is_dir():
        tmpfs(_READER_CONF)
    for parent in map(Path, _POLICY_PARENTS):
        if parent.is_dir():
            _private_copy(parent)
            (parent / "policies" / "managed").mkdir(parents=True, exist_ok=True)
    for bundle in _DRIVERS.glob("*.bundle"):
        tmpfs(bundle)
    if (_DRIVERS / "serial").is_dir():
        _private_copy(_DRIVERS / "serial")


def _private_copy(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "copy"
        shutil.copytree(folder, copy, symlinks=True)
        tmpfs(folder)
        shutil.copytree(copy, folder, symlinks=True, dirs_exist_ok=True)


def tmpfs(folder: Path, mode: int = 0o755) -> None:
    """Mount an empty file system in memory over a folder, for this process and its programs.

    Raises:
        IsolationError: the system refuses.
    """
    _call("mount", b"tmpfs", os.fsencode(folder), b"tmpfs", 0, b"mode=%04o" % mode)


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh22x", b"lo", 0)
        answer = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request)
        (flags,) = struct.unpack_from("h", answer, 16)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | _IFF_UP))


def _call(name: str, *arguments: int | bytes | None) -> None:
    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    if function(*arguments) != 0:
        step = " ".join([name, *(str(value) for value in arguments if value is not None)])
        raise IsolationError(step, ctypes.get_errno())
