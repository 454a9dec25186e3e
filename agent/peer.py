"""Who is at the other end of a loopback connection, from the kernel's tables (proc(5))."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_TABLES: Final = {socket.AF_INET: Path("/proc/self/net/tcp"), socket.AF_INET6: Path("/proc/self/net/tcp6")}
_ESTABLISHED: Final = "01"
_LISTEN: Final = "0A"
_LOCAL, _REMOTE, _STATE, _USER, _INODE = 1, 2, 3, 7, 9


def user_of(peer: tuple[str, int], own: tuple[str, int]) -> int | None:
    """The user id behind the other end of a connection on this machine; None when it can't be told.

    Args:
        peer: the other end's address and port.
        own: this end's.
    """
    family = socket.AF_INET6 if ":" in peer[0] else socket.AF_INET
    wanted = _endpoint(family, peer), _endpoint(family, own)
    for row in _rows(family):
        if (row[_LOCAL], row[_REMOTE]) == wanted:
            return int(row[_USER])
    return None


def holder_of(port: int) -> str:
    """Who listens on a loopback port, for a person: program and process id, else the user, else unknown."""
    suffix = f":{port:04X}"
    for family in _TABLES:
        for row in _rows(family):
            if row[_STATE] == _LISTEN and row[_LOCAL].endswith(suffix):
                return _program_with(row[_INODE]) or f"a program of user {row[_USER]}"
    return "an unknown program"


def clients_of(ports: Collection[int]) -> dict[int, int]:
    """Who is connected to these loopback ports from this machine: user id by port, of one client each."""
    found: dict[int, int] = {}
    for row in _rows(socket.AF_INET):
        port = int(row[_REMOTE].rpartition(":")[2], 16)
        if row[_STATE] == _ESTABLISHED and port in ports:
            found[port] = int(row[_USER])
    return found


def _program_with(inode: str) -> str | None:
    """The program that has a socket open, as far as this user may look."""
    wanted = f"socket:[{inode}]"
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            if any(_target(item) == wanted for item in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (process {process.name})"
        except OSError:  # another user's, or gone
            continue
    return None


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:  # closed in between
        return ""


def _rows(family: socket.AddressFamily) -> Iterator[list[str]]:
    try:
        lines = _TABLES[family].read_text().splitlines()[1:]
    except OSError:
        return
    for line in lines:
        fields = line.split()
        if len(fields) > _INODE:
            yield fields


def _endpoint(family: socket.AddressFamily, address: tuple[str, int]) -> str:
    """An address as the kernel prints it: 32-bit words in this machine's byte order, hexadecimal."""
    packed = socket.inet_pton(family, address[0])
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{address[1]:04X}"
