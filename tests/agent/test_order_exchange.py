"""A message of the portal that comes in the moment in which nobody waits for it any more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agent.journal import Journal, OrderRef
from agent.order_exchange import OrderExchange, OrderKeys
from agent.sealing import Sealer
from protocol import jose
from protocol.messages import ManagementProof, Order
from protocol.orders import Exchange, Position, Side, Stage

REF = OrderRef("portal.test", "order-1")
AT_CARD = Position(Stage.PROCEEDING, 1, 1)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "journal.sqlite", Sealer(bytes(32)))
    opened.begin(REF, "token", b"key")
    yield opened
    opened.close()


async def test_who_waits_next_gets_it(journal: Journal) -> None:
    device, portals_key = jose.SigningKey.generate(), jose.SigningKey.generate()
    portal = Exchange(REF.jti, Side.PORTAL, portals_key, [device.public], AT_CARD)
    order = cast(Order, SimpleNamespace(resume_within=60, parameters=SimpleNamespace(certifies=True)))
    keys = OrderKeys(device, jose.SigningKey.generate())
    exchange = OrderExchange(REF, order, keys, journal, cast(Any, None), AT_CARD)
    exchange._exchange = Exchange(REF.jti, Side.AGENT, device, [portals_key.public], AT_CARD)
    first, second = ManagementProof(1, bytes(8)), ManagementProof(2, bytes(8))
    given_up = asyncio.create_task(exchange.receive(ManagementProof))
    await asyncio.sleep(0)
    await exchange._take(portal.send(first))  # nothing runs between this and the next line
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    await exchange._take(portal.send(second))
    assert [await exchange.receive(ManagementProof) for _ in range(2)] == [first, second]
