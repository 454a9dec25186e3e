"""What tests of issuing cards share: people, a portal whose mail server is away, and what is refused, undone, told."""

from __future__ import annotations

import re
import zlib
from base64 import a85decode
from typing import TYPE_CHECKING, Any

import pytest

from portal.config import Mail
from protocol.errors import InlayError
from protocol.messages import (
    Undo,
    Undone,
)
from tests.support import issued_cards as cards
from tests.support.issued_cards import Begun, Staff
from tests.support.portal_kit import running_portal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from portal.views import Session
    from tests.support.portal_kit import Kit

AWAY = Mail(host="127.0.0.1", sender="portal@example.org", port=1)


@pytest.fixture
async def people(kit: Kit) -> Staff:
    """Administrator, operator, approver."""
    return await cards.staff(kit)


@pytest.fixture
async def ada(kit: Kit) -> Session:
    """Who gets the card."""
    return await kit.person()


@pytest.fixture
async def mailing(tmp_path: Path, database_url: str) -> AsyncIterator[Kit]:
    """A portal with a mail server that is away."""
    async with running_portal(tmp_path, database=database_url, mail=AWAY) as running:
        yield running


async def refused(waited: Any) -> str:
    """The code with which something is refused."""
    with pytest.raises(InlayError) as caught:
        await waited
    return caught.value.code


async def undone(work: Begun) -> str:
    """The portal undoes the order; its cause. The device agrees."""
    undo = await work.agent.hear()
    assert isinstance(undo, Undo), undo
    await work.agent.say(Undone(error=undo.error))
    return undo.error.error


async def cancel(kit: Kit, people: Staff, work: Begun) -> None:
    await kit.services.cancel(people.olga, work.view.id)


def told(pdf: bytes) -> str:
    """What stands in a letter."""
    assert pdf.startswith(b"%PDF-")
    streams = re.findall(rb"stream\r?\n(.*?)endstream", pdf, re.DOTALL)
    found = b"".join(
        zlib.decompress(a85decode(item.strip(), adobe=False))
        if item.strip().endswith(b"~>") is False
        else zlib.decompress(a85decode(b"<~" + item.strip(), adobe=True))
        for item in streams
    )
    return "\n".join(item.decode("latin-1") for item in re.findall(rb"\((.*?)\) Tj", found))
