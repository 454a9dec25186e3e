"""Where an agent's loopback socket is to be found: constants on both sides, never a setting.

The ports lie below the ranges that Linux and Windows hand out for outgoing
connections. Each user's agent takes the first free one; a page tries them all.
"""

from __future__ import annotations

from typing import Final

PORTS: Final = tuple(range(27411, 27419))
PATH: Final = "/inlay"
SUBPROTOCOL: Final = "inlay.v1"
WELL_KNOWN: Final = "/.well-known/inlay"
