"""*Change PUK*, *Check PIN* and *Block card* by a real portal and agent, on a card over real pcscd and vpcd.

Somebody gives the card another PUK with yubikit, behind the portal's back. The portal's is refused then, the one that
is typed isn't, and with what the portal keeps after that the holder's PIN is unblocked. In the end it is blocked.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from portal.errors import FieldErrors
from portal.model.states import Role
from portal.processes.block_card import BlockCardInReader
from portal.processes.change_puk import ChangeCardPuk
from portal.processes.lock_temporary_card import LockTemporaryCard
from portal.processes.unblock_change_pin import UnblockChangePin
from portal.processes.verify_pin import VerifyCardPin
from portal.store.tables import Card
from tests.interop.test_puk_verify_block_over_vpcd import CONSENT, sw, tries, yubikit
from tests.interop.test_temporary_card_whole import NEW, assigned, carried_out, extended, step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from portal.views import Session
    from tests.support.attack_stage import Stage
    from tests.support.fake_windows import Answer
    from tests.support.pcscd import PrivatePcscd

pytestmark = pytest.mark.interop
OTHERS, WRONG, LAST = b"31415926", b"11112222", b"864209"
_VERIFY, _RESET_RETRY = 0x20, 0x2C


async def done(
    stage: Stage,
    who: Session,
    process: str,
    card: str,
    form: dict[str, list[str]],
    answers: Sequence[Answer],
) -> str:
    """A process whose order the agent carries out, bound by its number; how it ended."""
    view = await step(stage, who, process, card, form)
    how = await carried_out(stage, who, view, answers, number=True)
    await stage.kit.ended(who, view.id)  # the portal has heard of it, too
    return how


def changed_by_others(reader: str, old: str, new: str) -> None:
    with yubikit(reader) as session:
        session.change_puk(old, new)


async def test_from_a_puk_that_somebody_else_changed_to_a_blocked_card(
    stage: Stage, serial: str, pcscd: PrivatePcscd
) -> None:
    kit, reader = stage.kit, pcscd.readers[0]
    ada, olga = await kit.person(), await kit.person("olga@example.org", [Role.OPERATOR])
    card = await assigned(stage, olga, ada, serial)
    assert await extended(stage, olga, card, [(None, NEW)], number=True) == "finished"
    own = await kept(stage, card)
    await asyncio.to_thread(changed_by_others, reader, own.decode(), OTHERS.decode())

    portal, typed = {"PUK": ["portal"]}, {"PUK": ["typed"]}
    assert await done(stage, olga, ChangeCardPuk.name, card, portal, [CONSENT]) == "card_puk_other"
    assert await asyncio.to_thread(tries, reader) == (3, 2)
    with pytest.raises(FieldErrors):
        await step(stage, olga, ChangeCardPuk.name, card, portal)
    kit.clock.now += 1  # a person's orders are not of one second
    by_holder = {"Action": ["unblock"], "PUK": ["portal"]}
    with pytest.raises(FieldErrors):
        await step(stage, ada, UnblockChangePin.name, card, by_holder)
    by_holder["PUK"] = ["typed"]
    answers = [CONSENT, (OTHERS, NEW)]
    assert await done(stage, ada, UnblockChangePin.name, card, by_holder, answers) == "finished"
    assert await asyncio.to_thread(tries, reader) == (3, 3)
    kit.clock.now += 1
    answers = [CONSENT, (WRONG, None), (OTHERS, None)]
    assert await done(stage, olga, ChangeCardPuk.name, card, typed, answers) == "finished"
    said = str(stage.victim.windows.opened[-1].asked[2].warning)
    assert "only the last one" in said or "last try" in said
    fresh = await kept(stage, card)
    assert len({own, OTHERS, fresh}) == 3
    assert await asyncio.to_thread(sw, reader, _RESET_RETRY, OTHERS, NEW) == 0x63C2

    unblock = {"Action": ["unblock"], "PUK": ["portal"]}
    unblocked = done(stage, ada, UnblockChangePin.name, card, unblock, [CONSENT, (None, LAST)])
    assert await unblocked == "finished"
    answers = [CONSENT, (NEW, None), (LAST, None)]
    assert await done(stage, ada, VerifyCardPin.name, card, {}, answers) == "finished"
    assert await asyncio.to_thread(tries, reader) == (3, 3)

    await step(stage, olga, LockTemporaryCard.name, card, {"Reason": ["lost and found"]})
    assert await done(stage, olga, BlockCardInReader.name, card, {}, [CONSENT]) == "finished"
    assert await asyncio.to_thread(sw, reader, _VERIFY, LAST) == 0x6983
    assert await asyncio.to_thread(sw, reader, _RESET_RETRY, fresh, LAST) == 0x6983


async def kept(stage: Stage, card: str) -> bytes:
    """The PUK that the portal has of a card."""
    async with stage.kit.database.read() as tx:
        sealed = (await tx.get_one(Card, card)).sealed_puk
    assert sealed is not None
    return bytes(stage.kit.portal.context.keys.unseal(sealed, b"inlay-puk\0" + card.encode()))
