"""Which programs of this user have a connection to pcscd open: the kernel pairs the two ends of each (sock_diag(7)).

/proc/net/unix names pcscd's ends alone, which are pcscd's own. Nothing tells which of these programs holds a card.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_SOCK_DIAG, _BY_FAMILY, _DONE, _ERROR = 4, 20, 3, 2
"""NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, NLMSG_DONE, NLMSG_ERROR."""
_REQUEST_DUMP: Final = 0x301
"""NLM_F_REQUEST | NLM_F_DUMP."""
_SHOW_NAME_AND_PEER: Final = 0x1 | 0x4
_NAME, _PEER = 0, 2
_HEADER, _ASK, _ENTRY, _ATTRIBUTE = (
    struct.Struct(form) for form in ("=IHHII", "=BBHIIIII", "=BBBBIII", "=HH")
)
_BUFFER: Final = 65_536
_SECONDS: Final = 1.0


def clients_of(path: Path) -> list[str]:
    """Programs of this user that are connected to a Unix socket, for a person: name and process id; not this one.

    Empty as well where the kernel can't be asked.
    """
    try:
        ends = set(_far_ends(os.fsencode(path)))
    except (OSError, struct.error):
        return []
    wanted = {f"socket:[{inode}]" for inode in ends}
    return sorted(_programs_with(wanted)) if wanted else []


def _far_ends(path: bytes) -> Iterator[int]:
    """Inodes of the sockets that are connected to those with this path.

    Raises:
        OSError: the kernel can't be asked.
    """
    ask = _ASK.pack(socket.AF_UNIX, 0, 0, 0xFFFFFFFF, 0, _SHOW_NAME_AND_PEER, 0xFFFFFFFF, 0xFFFFFFFF)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _SOCK_DIAG) as kernel:
        kernel.settimeout(_SECONDS)
        kernel.send(_HEADER.pack(_HEADER.size + len(ask), _BY_FAMILY, _REQUEST_DUMP, 1, 0) + ask)
        while True:
            received = kernel.recv(_BUFFER)
            for kind, message in _parts(received):
                if kind in (_DONE, _ERROR):
                    return
                found = dict(_attributes(message[_ENTRY.size :]))
                if found.get(_NAME, b"").rstrip(b"\0") == path and len(found.get(_PEER, b"")) == 4:
                    yield int(struct.unpack("=I", found[_PEER])[0])


def _parts(received: bytes) -> Iterator[tuple[int, bytes]]:
    """Netlink messages: kind and content."""
    while len(received) >= _HEADER.size:
        size, kind, *_ = _HEADER.unpack_from(received)
        if size < _HEADER.size:
            return
        yield kind, received[_HEADER.size : size]
        received = received[size + -size % 4 :]


def _attributes(rest: bytes) -> Iterator[tuple[int, bytes]]:
    while len(rest) >= _ATTRIBUTE.size:
        size, kind = _ATTRIBUTE.unpack_from(rest)
        if size < _ATTRIBUTE.size:
            return
        yield kind, rest[_ATTRIBUTE.size : size]
        rest = rest[size + -size % 4 :]


def _programs_with(wanted: set[str]) -> Iterator[str]:
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):  # another user's, or gone
            if wanted & set(_targets(process / "fd")):
                yield f"{(process / 'comm').read_text().strip()} (process {process.name})"


def _targets(folder: Path) -> Iterator[str]:
    for link in folder.iterdir():
        with contextlib.suppress(OSError):  # closed in between
            yield os.readlink(link)
