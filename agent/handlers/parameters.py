"""Parameters of requests on the private socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol.errors import DecodeError

if TYPE_CHECKING:
    from agent.order_ports import PrivateRequest


def require_none(request: PrivateRequest) -> None:
    """Refuse parameters where a method has none.

    Raises:
        DecodeError: ``params_invalid``.
    """
    for name in request.params:
        raise DecodeError("params_invalid", f"$.{name[:40]}")
