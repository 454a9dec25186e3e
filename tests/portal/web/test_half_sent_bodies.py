"""Bodies that are never sent to their end keep no connection of the portal busy."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from portal.ca import service
from portal.web import guard

if TYPE_CHECKING:
    from tests.portal.web.visitor import Visitor
    from tests.support.portal_kit import Kit


async def half_sent(host: str, port: int, path: str, kind: str, origin: str) -> bytes:
    """What comes back, until the connection is closed, for a request that says 50 bytes and sends 5."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\nContent-Type: {kind}\r\n"
            "Content-Length: 50\r\n\r\ncsrf="
        )
        writer.write(head.encode())
        async with asyncio.timeout(15):
            answered = await reader.readuntil(b"\r\n")
            writer.write_eof()  # what is left of the body isn't waited for
            await reader.read()
        return answered
    finally:
        writer.close()
        await writer.wait_closed()


async def test_half_a_question_to_the_ocsp_responder(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "BODY_SECONDS", 0.2)
    host, port = str(kit.server.host), int(kit.server.port or 0)
    answered = await half_sent(host, port, "/ocsp", "application/ocsp-request", "https://portal.test")
    assert b" 408 " in answered


async def test_half_a_form(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "FORM_SECONDS", 0.2)
    server = visitor.client.server
    origin = visitor.services.info.origin
    answered = await half_sent(
        str(server.host), int(server.port or 0), "/login", "application/x-www-form-urlencoded", origin
    )
    assert b" 408 " in answered
