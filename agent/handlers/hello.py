"""``hello``: the version that page and agent both speak; nothing about the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol.messages import PROTOCOL_VERSIONS, HelloParams, LoopbackHelloResult, Message
from protocol.session import choose_version

if TYPE_CHECKING:
    from agent.order_ports import PageRequest, Services


async def handle_page(_services: Services, request: PageRequest) -> Message:
    """Choose the version.

    Raises:
        InlayError: ``version_unsupported``.
    """
    params = request.params
    if not isinstance(params, HelloParams):
        raise TypeError(type(params))
    return LoopbackHelloResult(version=choose_version(params.versions), versions=list(PROTOCOL_VERSIONS))
