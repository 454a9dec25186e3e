"""Connections of other libraries to a card in a reader, in the test's own process: pyscard's, and yubikit's over it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from smartcard.CardConnection import CardConnection
from smartcard.scard import SCARD_LEAVE_CARD, SCARD_SHARE_SHARED
from smartcard.System import readers
from ykman.pcsc import ScardSmartCardConnection
from yubikit.core.smartcard import SmartCardConnection

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def pyscard(reader: str) -> Iterator[CardConnection]:
    """To the card in a reader, shared, by T=1.

    Its context is released with it. Left to the collection of garbage that would come in a later test, and fail there
    where pcscd was started anew meanwhile.
    """
    found = next(each for each in readers() if each.name == reader)
    connection = found.createConnection()
    try:
        connection.connect(CardConnection.T1_protocol, mode=SCARD_SHARE_SHARED, disposition=SCARD_LEAVE_CARD)
        yield connection
    finally:
        connection.release()


@contextlib.contextmanager
def yubikit(reader: str) -> Iterator[SmartCardConnection]:
    """The same, as yubikit's sessions want it."""
    with pyscard(reader) as connection, ScardSmartCardConnection(connection) as wrapped:  # type: ignore[no-untyped-call]
        yield wrapped
