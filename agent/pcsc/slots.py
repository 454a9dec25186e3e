"""Which virtual readers (vpcd) this machine has, as pcscd's own configuration names them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

CONFIGURATION: Final = Path("/etc/reader.conf.d")
SLOTS_PER_ENTRY: Final = 2
"""Cards that one entry takes: vpcd listens on its port and the next."""

_DEVICE: Final = re.compile(r"^/dev/null:(0x[0-9A-Fa-f]{1,4}|[0-9]{1,5})$")
_LINE: Final = re.compile(r'^\s*([A-Z]+)\s+("([^"]*)"|\S+)')


class VirtualSlot(NamedTuple):
    """A place for a virtual card.

    Attributes:
        name: the entry's FRIENDLYNAME; the reader's PC/SC name begins with it.
        number: which of the entry's slots; the reader's PC/SC name ends with it, two hexadecimal digits.
        port: vpcd's TCP port.
    """

    name: str
    number: int
    port: int

    def is_reader(self, reader: str) -> bool:
        """Whether a reader's PC/SC name is this slot's."""
        return reader.startswith(f"{self.name} ") and reader.endswith(f" {self.number:02X}")


def read_slots(folder: Path = CONFIGURATION) -> list[VirtualSlot]:
    """The virtual slots that pcscd is configured with; Inlay's own first.

    Entries that dial out (a host name in DEVICENAME) aren't slots that a card can connect to.
    """
    found: list[VirtualSlot] = []
    for path in sorted(folder.glob("*")):
        try:
            text = path.read_text(errors="replace")
        except OSError:
            continue
        found += _slots(text)
    by_port: dict[int, VirtualSlot] = {}
    for slot in sorted(found, key=lambda slot: not slot.name.startswith("Inlay")):
        by_port.setdefault(slot.port, slot)
    return list(by_port.values())


def _slots(text: str) -> list[VirtualSlot]:
    """The slots of one file: entries begin with FRIENDLYNAME (reader.conf(5))."""
    found = []
    name, port = "", None
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        value = match[3] if match[3] is not None else match[2]
        if match[1] == "FRIENDLYNAME":
            name, port = value, None
        elif match[1] == "DEVICENAME" and (device := _DEVICE.match(value)):
            port = int(device[1], 0)
        elif match[1] == "LIBPATH":
            if "vpcd" in value and name and port is not None:
                found += [VirtualSlot(name, number, port + number) for number in range(SLOTS_PER_ENTRY)]
            name, port = "", None
    return found
