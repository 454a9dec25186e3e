"""Cards that a portal has through PKCS#11, with OpenSC's module over a virtual card in a real reader."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent import card_map
from agent.card_map import CardKind, CardMap
from agent.pcsc.pkcs11 import Driver
from agent.vsc.card import VirtualCard
from portal.processes.card_descriptions import CHOICE
from portal.processes.issue_card import IssueCard
from portal.processes.read_card import ReadCardInReader
from portal.processes.unblock_change_pin import UnblockChangePin
from portal.processes.verify_pin import VerifyCardPin
from portal.store.tables import Card, ManagedCard
from portal.views import Session
from tests.support.agent_parts import PcscReadersOfATest
from tests.support.attack_stage import Stage
from tests.support.certificates import ThrowAwayCA
from tests.support.issued_cards import Staff, card_row, certificate_states, staff, step
from tests.support.pcscd import PrivatePcscd
from tests.support.token_cards import NAME, PAST_CONSENT, approved, carried_out, done, token_stage
from tests.support.virtual_cards import EC_KEYS, PIN, PUK, InReader, full_card, store_in

pytestmark = pytest.mark.interop

MODULE = Path("/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so")
NEW, WRONG = b"135790", b"999999"
_KIND = CardKind("PIV", "pkcs11", MODULE, None, b"", bytes.fromhex("A000000308"), frozenset(), "test")


@pytest.fixture
async def inserted(
    pcscd: PrivatePcscd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[VirtualCard, str]]:
    """A card in a reader, and its token's serial number as OpenSC tells it."""
    monkeypatch.setattr(card_map, "load", lambda _machine: CardMap((_KIND,), ()))
    card = full_card(store_in(tmp_path), EC_KEYS)
    with InReader(card, pcscd.vpcd_port):
        driver = Driver(MODULE)
        serial = (await driver.tokens())[0].serial
        await driver.close()
        yield card, serial


@pytest.fixture
async def stage(
    inserted: tuple[VirtualCard, str], tmp_path: Path, https_ca: ThrowAwayCA, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stage]:
    async with token_stage(tmp_path, https_ca, PcscReadersOfATest(), monkeypatch, puk=PUK) as running:
        yield running


@pytest.fixture
async def people(stage: Stage) -> Staff:
    return await staff(stage.kit)


async def in_use(stage: Stage, people: Staff, holder: Session, serial: str) -> str:
    """A card that its holder has in use; it came to its keys by its maker's own tools."""
    card = await approved(stage.kit, people, holder)
    async with stage.kit.database.write() as tx:
        row = await tx.get_one(Card, card)
        row.state, row.serial, row.valid_until = "Active", serial, row.created_at + 10_000_000
        tx.add(ManagedCard(card_id=card, key_generation=0, encoded_for=row.owner_id, changed_at=1))
    return card


def of(card: VirtualCard) -> object:
    return dataclasses.replace(card.details(), generation=0)


async def test_what_the_module_can_not_do_leaves_card_and_portal_as_they_are(
    stage: Stage, people: Staff, inserted: tuple[VirtualCard, str]
) -> None:
    card, serial = inserted
    before = of(card)
    ada = await stage.kit.person()
    found = await approved(stage.kit, people, ada)
    view = await step(stage.kit, people.olga, IssueCard.name, found, {"Serial": [serial]})
    # OpenSC makes no keys on a PIV card, and knows no security officer of it: it is told no PUK
    assert await carried_out(stage, people.olga, view, [PAST_CONSENT]) == "pkcs11_makes_no_keys"
    assert (await card_row(stage.kit, found)).state == "Approved"
    assert await certificate_states(stage.kit) == []
    assert of(card) == before


async def test_another_card_is_told_no_pin(
    stage: Stage, people: Staff, inserted: tuple[VirtualCard, str]
) -> None:
    card, serial = inserted
    before = of(card)
    ada = await stage.kit.person()
    found = await in_use(stage, people, ada, serial.upper() + "0")
    view = await step(stage.kit, ada, VerifyCardPin.name, found)
    ending = asyncio.create_task(carried_out(stage, ada, view, [PAST_CONSENT, (PIN, None)]))
    window = await stage.victim.windows.first()
    await window.until_said("is another one, and stays as it is")
    await window.close_by_person()
    assert await ending == "user_cancelled"
    assert of(card) == before


async def test_its_pin_is_checked_and_changed_and_not_unblocked_by_this_module(
    stage: Stage, people: Staff, inserted: tuple[VirtualCard, str]
) -> None:
    card, serial = inserted
    ada = await stage.kit.person()
    found = await in_use(stage, people, ada, serial)
    slip = [PAST_CONSENT, (WRONG, None), (PIN, None)]
    await done(stage, ada, await step(stage.kit, ada, VerifyCardPin.name, found), slip)
    assert card.details().pin_tries == 3
    view = await step(stage.kit, ada, UnblockChangePin.name, found, {"Action": ["change"], "PUK": ["portal"]})
    await done(stage, ada, view, [PAST_CONSENT, (PIN, NEW)])
    view = await step(
        stage.kit, ada, UnblockChangePin.name, found, {"Action": ["unblock"], "PUK": ["portal"]}
    )
    assert await carried_out(stage, ada, view, [PAST_CONSENT, (None, PIN)]) == "pkcs11_no_officer"
    assert card.details().puk_tries == 3
    view = await step(stage.kit, ada, VerifyCardPin.name, found)
    await done(stage, ada, view, [PAST_CONSENT, (NEW, None)])


async def test_what_the_card_tells_is_read_and_whose_it_is(
    stage: Stage, people: Staff, inserted: tuple[VirtualCard, str]
) -> None:
    card, serial = inserted
    before = of(card)
    await in_use(stage, people, await stage.kit.person(), serial)
    view = await stage.kit.services.start_process(people.olga, ReadCardInReader.name)
    view = await stage.kit.services.next(people.olga, view.id, view.version, {CHOICE: [NAME]})
    await done(stage, people.olga, view, [PAST_CONSENT])
    facts = (await stage.kit.services.process(people.olga, view.id)).facts
    assert (facts["Known here as"], facts["Serial number"]) == ("Badge (card)", serial)
    shown = [value[:2] for name, value in facts.items() if name.startswith("Certificate ")]
    assert shown == ["9A", "9C", "9D"]
    assert of(card) == before
