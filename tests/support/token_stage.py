"""A portal with a kind of card that is made through PKCS#11, its people, and cards of that kind as tests need them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from protocol.messages import (
    Changing,
    Finished,
    Requests,
)
from tests.support.issued_cards import begun, receipt, staff
from tests.support.portal_kit import running_portal
from tests.support.token_cards import approved, described

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from portal.views import Session
    from tests.support.issued_cards import Begun, Staff
    from tests.support.portal_kit import Kit

SERIAL = "A1b2 C3"


@pytest.fixture
async def kit(tmp_path: Path, database_url: str) -> AsyncIterator[Kit]:
    """A portal that has such a kind of card."""
    async with running_portal(
        tmp_path, database=database_url, card_descriptions=described(tmp_path)
    ) as running:
        yield running


@pytest.fixture
async def people(kit: Kit) -> Staff:
    return await staff(kit)


@pytest.fixture
async def ada(kit: Kit) -> Session:
    return await kit.person()


def requested(work: Begun, **changes: Any) -> Requests:
    assert work.agent.order is not None
    made = work.agent.card.requests(work.agent.order)
    return msgspec.structs.replace(made, **{"serial": None, "token": SERIAL, **changes})


async def issued(
    kit: Kit, people: Staff, ada: Session, *, takes_puk: bool = True, serial: str = SERIAL
) -> tuple[str, Begun]:
    card = await approved(kit, people, ada)
    work = await begun(kit, people.olga, card, serial=serial)
    await work.agent.say(Changing())
    await work.agent.say(requested(work, token=serial))
    made = receipt(work, await work.agent.hear())  # type: ignore[arg-type]
    await work.agent.say(msgspec.structs.replace(made, puk_replaced=takes_puk))
    assert isinstance(await work.agent.hear(), Finished)
    return card, work
