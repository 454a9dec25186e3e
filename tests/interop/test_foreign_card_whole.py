"""A card that others have personalised, then *Extend temporary card* by a real portal and agent, then used by others.

The card is our own engine's behind real pcscd and vpcd. What is on it comes from yubikit, as ykman does it, or from
OpenSC's piv-tool. What Inlay isn't told to change has to be there afterwards, byte for byte.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select
from yubikit.piv import MANAGEMENT_KEY_TYPE, OBJECT_ID, SLOT

from agent.ports import UserCancelled
from portal.model.states import Role
from portal.processes.context import FactorySecrets
from portal.store.tables import Card, Certificate
from tests.interop.test_temporary_card_whole import (
    NEW,
    assigned,
    extended,
    good,
    seen_by_yubikit,
    used_by_others,
)
from tests.support.foreign_personaliser import GENERATED, IMPORTED, OTHER_PUK, Contents, Personaliser
from tests.support.virtual_cards import FACTORY_KEY, PUK

if TYPE_CHECKING:
    from pathlib import Path

    from portal.views import Session
    from tests.support.attack_stage import Stage
    from tests.support.fake_windows import Answer
    from tests.support.pcscd import PrivatePcscd

pytestmark = pytest.mark.interop

OURS = {SLOT.AUTHENTICATION, SLOT.SIGNATURE, SLOT.KEY_MANAGEMENT}
WRITTEN = {
    OBJECT_ID.CHUID.value,
    OBJECT_ID.AUTHENTICATION.value,
    OBJECT_ID.SIGNATURE.value,
    OBJECT_ID.KEY_MANAGEMENT.value,
}
"""What an encoding writes where there was something; the CCC of others stays."""


@pytest.fixture
def other(serial: str, pcscd: PrivatePcscd) -> Personaliser:
    return Personaliser(pcscd.readers[0])


def expect(stage: Stage, key: bytes, puk: bytes) -> None:
    """What the portal is told that its cards come with."""
    object.__setattr__(stage.kit.portal.context, "factory", FactorySecrets(key, puk))


async def entered(stage: Stage, serial: str) -> tuple[Session, str]:
    """An operator, and the card assigned to somebody."""
    ada, olga = await stage.kit.person(), await stage.kit.person("olga@example.org", [Role.OPERATOR])
    return olga, await assigned(stage, olga, ada, serial)


async def issued(stage: Stage) -> list[Certificate]:
    """All certificates but those that are revoked."""
    await stage.kit.portal.revocations.run_due()
    async with stage.kit.database.read() as tx:
        return [row for row in await tx.scalars(select(Certificate)) if row.state != "Revoked"]


def untouched(before: Contents, after: Contents) -> None:
    """What an encoding has no order to change is as it was."""
    assert {slot: key for slot, key in after.keys.items() if slot not in OURS} == {
        slot: key for slot, key in before.keys.items() if slot not in OURS
    }
    kept = {tag: content for tag, content in before.objects.items() if tag not in WRITTEN}
    assert {tag: after.objects[tag] for tag in kept} == kept


async def test_a_card_with_another_management_key_is_named_and_stays_as_it_is(
    stage: Stage, serial: str, other: Personaliser
) -> None:
    await asyncio.to_thread(other.like_ykman, MANAGEMENT_KEY_TYPE.AES256)
    expect(stage, FACTORY_KEY, OTHER_PUK.encode())
    olga, found = await entered(stage, serial)
    before = await asyncio.to_thread(other.contents)
    assert await extended(stage, olga, found, [(None, NEW)], number=True) == "card_management_wrong"
    assert await asyncio.to_thread(other.contents) == before
    assert await issued(stage) == []
    for slot in (*GENERATED, IMPORTED):
        await asyncio.to_thread(other.use, slot)


async def test_a_card_with_another_puk_is_named_and_stays_as_it_is(
    stage: Stage, serial: str, other: Personaliser
) -> None:
    """But for the try of the PUK that it took to find out."""
    await asyncio.to_thread(other.like_ykman, MANAGEMENT_KEY_TYPE.AES192)
    expect(stage, other.key, PUK)
    olga, found = await entered(stage, serial)
    before = await asyncio.to_thread(other.contents)
    assert await extended(stage, olga, found, [(None, NEW)], number=True) == "card_puk_other"
    error = stage.victim.windows.opened[-1].error
    assert error is not None
    assert "Don't start again" in error.next_step
    after = await asyncio.to_thread(other.contents)
    assert after == before._replace(tries=(before.tries[0], before.tries[1] - 1))
    assert await issued(stage) == []


async def test_a_pin_that_others_have_changed_is_asked_for_again_and_nothing_is_changed_without_it(
    stage: Stage, serial: str, other: Personaliser
) -> None:
    await asyncio.to_thread(other.like_ykman, MANAGEMENT_KEY_TYPE.AES192)
    expect(stage, other.key, OTHER_PUK.encode())
    olga, found = await entered(stage, serial)
    assert await extended(stage, olga, found, [(None, NEW)], number=True) == "finished"
    other.pin = NEW.decode()
    await asyncio.to_thread(other.change_pin, "112233")
    before = await asyncio.to_thread(other.contents)
    slips: list[Answer] = [(None, None), (NEW, None), UserCancelled("consent")]
    assert await extended(stage, olga, found, slips, number=False) == "user_cancelled"
    asked = stage.victim.windows.opened[-1].asked
    assert "The PIN is wrong" in (asked[-1].warning or "")
    after = await asyncio.to_thread(other.contents)
    assert after == before._replace(tries=(before.tries[0] - 1, before.tries[1]))
    assert await extended(stage, olga, found, [(None, None), (b"112233", None)], number=False) == "finished"


@pytest.mark.parametrize("kind", [MANAGEMENT_KEY_TYPE.TDES, MANAGEMENT_KEY_TYPE.AES256])
async def test_a_card_personalised_by_yubikit_is_extended_and_used_by_everybody(
    stage: Stage,
    serial: str,
    other: Personaliser,
    pcscd: PrivatePcscd,
    tmp_path: Path,
    kind: MANAGEMENT_KEY_TYPE,
) -> None:
    await asyncio.to_thread(other.like_ykman, kind)
    before = await asyncio.to_thread(other.contents)
    expect(stage, other.key, OTHER_PUK.encode())
    olga, found = await entered(stage, serial)
    assert await extended(stage, olga, found, [(None, NEW)], number=True) == "finished"
    await whole(stage, found, other, before, pcscd, tmp_path)


async def test_a_card_personalised_by_piv_tool_is_extended_and_used_by_everybody(
    stage: Stage, serial: str, other: Personaliser, pcscd: PrivatePcscd, tmp_path: Path
) -> None:
    await asyncio.to_thread(other.like_piv_tool, pcscd, tmp_path / "tool")
    before = await asyncio.to_thread(other.contents)
    expect(stage, other.key, PUK)
    olga, found = await entered(stage, serial)
    assert await extended(stage, olga, found, [(None, NEW)], number=True) == "finished"
    await whole(stage, found, other, before, pcscd, tmp_path)


async def whole(
    stage: Stage,
    found: str,
    other: Personaliser,
    before: Contents,
    pcscd: PrivatePcscd,
    tmp_path: Path,
) -> None:
    """Every object and key of the card is read and used by others; the PIN of before is worth nothing."""
    other.pin = NEW.decode()
    async with stage.kit.database.read() as tx:
        row = await tx.get_one(Card, found)
    certificates = await good(stage)
    after = await asyncio.to_thread(other.contents)
    untouched(before, after)
    assert after.tries == before.tries
    assert bytes.fromhex(row.guid) in after.objects[OBJECT_ID.CHUID.value]
    assert after.objects[OBJECT_ID.CHUID.value] != before.objects[OBJECT_ID.CHUID.value]
    assert set(after.keys) >= OURS
    for slot in OURS:
        assert after.keys[slot][0] != before.keys[slot][0]
    home = tmp_path / "others"
    home.mkdir()
    for slot in after.keys:
        await asyncio.to_thread(other.use, slot)
        await asyncio.to_thread(other.use_by_opensc, pcscd, home, slot)
    await asyncio.to_thread(used_by_others, pcscd, home, certificates, NEW.decode())
    await asyncio.to_thread(seen_by_yubikit, other.reader, row.guid, certificates, NEW.decode())
