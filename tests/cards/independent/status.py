"""Status words of ISO/IEC 7816-4 table 5 and SP 800-73-4 part 2, and a secret that counts its tries."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from enum import IntEnum


class Status(IntEnum):
    """What a command ends with."""

    DONE = 0x9000
    WRONG_LENGTH = 0x6700
    NO_CHANNEL = 0x6881
    NO_SECURE_MESSAGING = 0x6882
    CHAIN_BROKEN = 0x6883
    NO_CHAINING = 0x6884
    NOT_ALLOWED = 0x6982
    BLOCKED = 0x6983
    NOT_NOW = 0x6985
    WRONG_DATA = 0x6A80
    NO_FUNCTION = 0x6A81
    NO_FILE = 0x6A82
    NO_ROOM = 0x6A84
    WRONG_P1_P2 = 0x6A86
    NO_REFERENCE = 0x6A88
    NO_INSTRUCTION = 0x6D00
    NO_CLASS = 0x6E00


class Refused(Exception):
    """The command ends with this status."""

    def __init__(self, status: int, data: bytes = b"") -> None:
        super().__init__(f"{status:04X}")
        self.status, self.data = int(status), data


@dataclass
class Secret:
    """PIN or PUK.

    Attributes:
        value: eight bytes.
        tries: how many there are at first.
        left: how many there are.
        verified: whether it has been brought.
        default: whether it is the maker's.
    """

    value: bytes
    tries: int
    left: int = field(init=False)
    verified: bool = False
    default: bool = True

    def __post_init__(self) -> None:
        self.left = self.tries

    @property
    def told(self) -> int:
        """The status that tells how many tries are left, which has four bits for it."""
        return 0x63C0 | min(self.left, 15)

    def compare(self, value: bytes) -> bool:
        """Spend a try, and have it back if it is the value."""
        self.left -= 1
        self.verified = False
        if not hmac.compare_digest(value, self.value):
            return False
        self.left = self.tries
        return True

    def replace(self, value: bytes) -> None:
        """Set another value, with all tries."""
        self.value, self.left, self.default, self.verified = value, self.tries, False, False
