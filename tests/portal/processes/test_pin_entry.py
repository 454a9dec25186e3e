"""The option that says where a holder types the PIN reaches every order in which they do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from portal.model.states import Role
from portal.processes import order_rows
from portal.processes.check_card import CheckCard
from portal.processes.sign_text import TEXT, SignText
from portal.processes.unblock_change_pin import UnblockChangePin
from portal.processes.verify_pin import VerifyCardPin
from portal.store.tables import Order
from protocol.messages import Authenticate, ChangePin, EncodeCard, Sign, VerifyPin
from tests.support.databases import BACKENDS
from tests.support.extended_cards import EXTEND, ada, assigned, encoded, olga, options, step

if TYPE_CHECKING:
    from portal.views import Session
    from protocol.messages import Operation
    from tests.support.portal_kit import Kit

__all__ = ["ada", "olga"]
pytestmark = pytest.mark.parametrize("backend", BACKENDS[:1], indirect=True)


async def ordered(kit: Kit, who: Session, name: str, card: str, form: dict[str, list[str]]) -> Operation:
    """What a process orders; it is cancelled then."""
    view = await step(kit, who, name, card, form)
    async with kit.database.read() as tx:
        found = order_rows.parameters(
            (await tx.scalars(select(Order).where(Order.process_id == view.id))).one()
        )
    await kit.services.cancel(who, view.id)
    return found


def where(wanted: Operation) -> str:
    assert isinstance(wanted, VerifyPin | Authenticate | Sign | ChangePin | EncodeCard)
    return wanted.pin.where if isinstance(wanted, EncodeCard) else wanted.where


async def test_it_reaches_every_order_in_which_a_pin_is_typed(kit: Kit, olga: Session, ada: Session) -> None:
    root = await kit.person("rita@example.org", [Role.ADMINISTRATOR])
    card = await assigned(kit, olga, ada)
    await options(kit, root, TempCardsPINEntry=["pad"])
    first = await ordered(kit, olga, EXTEND, card, {})
    assert where(first) == "window"  # a new PIN by the portal's PUK, which nobody could type
    await encoded(kit, olga, card)
    orders = [
        (ada, VerifyCardPin.name, {}),
        (ada, CheckCard.name, {}),
        (ada, SignText.name, {TEXT.name: ["a text"]}),
        (ada, UnblockChangePin.name, {"Action": ["change"], "PUK": ["portal"]}),
        (olga, EXTEND, {}),
    ]
    for wanted in ("pad", "auto", "window"):
        await options(kit, root, TempCardsPINEntry=[wanted])
        assert [where(await ordered(kit, who, name, card, form)) for who, name, form in orders] == [
            wanted
        ] * 5
