"""Cards that are made through PKCS#11, from the portal's processes to a token of SoftHSM 2: refused, then whole."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest

from portal.model.states import Role
from portal.processes import tasks
from portal.processes.activate_card import ActivateCard
from portal.processes.assign_temporary_card import AssignTemporaryCard
from portal.processes.card_descriptions import CHOICE
from portal.processes.check_card import CheckCard
from portal.processes.extend_temporary_card import ExtendTemporaryCard
from portal.processes.issue_card import IssueCard
from portal.processes.lock_card import LockCard
from portal.processes.read_card import ReadCardInReader
from portal.processes.set_first_pin import SetFirstPin
from portal.processes.sign_text import TEXT, SignText
from portal.processes.unblock_change_pin import UnblockChangePin
from portal.processes.verify_pin import VerifyCardPin
from portal.processes.withdraw_temporary_card import WithdrawTemporaryCard
from portal.store.tables import Card, CardLetter
from protocol.tokens import token_guid
from tests.support import issued_cards, token_readers
from tests.support.issued_cards import card_row, certificate_states, staff, step
from tests.support.token_cards import (
    NAME,
    PAST_CONSENT,
    approved,
    assigned,
    carried_out,
    done,
    first_pin,
    recovery_agreed,
    temporary,
    token_stage,
)
from tests.support.token_orders import NEW, WRONG, certificates, objects, token_serial
from tests.support.token_readers import SO_PIN, TokenReaders

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from portal.views import ProcessView, Session
    from tests.support.attack_stage import Stage
    from tests.support.certificates import ThrowAwayCA
    from tests.support.fake_windows import Answer
    from tests.support.issued_cards import Staff
    from tests.support.portal_kit import Kit

pytestmark = pytest.mark.interop

LATER: Final = b"864213"
SLOTS: Final = {"9A", "9C", "9D"}


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shim")
    token_readers.build(folder)
    return folder


@pytest.fixture
def readers(tmp_path: Path, shim: Path, monkeypatch: pytest.MonkeyPatch) -> TokenReaders:
    return TokenReaders.with_a_store(tmp_path, shim, monkeypatch)


@pytest.fixture
async def serial(readers: TokenReaders) -> str:
    """The serial number of a token with a PIN of somebody's, in the reader."""
    token_readers.initialise()
    return await token_serial()


@pytest.fixture
async def stage(
    tmp_path: Path, https_ca: ThrowAwayCA, readers: TokenReaders, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stage]:
    async with token_stage(tmp_path, https_ca, readers, monkeypatch) as running:
        yield running


@pytest.fixture
async def people(stage: Stage) -> Staff:
    return await staff(stage.kit)


@pytest.fixture
async def ada(stage: Stage) -> Session:
    return await stage.kit.person()


async def issuing(stage: Stage, people: Staff, card: str, serial: str) -> ProcessView:
    return await step(stage.kit, people.olga, IssueCard.name, card, {"Serial": [serial]})


async def issue(stage: Stage, people: Staff, card: str, serial: str) -> str:
    return await carried_out(stage, people.olga, await issuing(stage, people, card, serial), [PAST_CONSENT])


async def own_puk(kit: Kit, card: str) -> bytes:
    """The PUK that a card was given when it was issued, as its letter tells it."""
    row = await card_row(kit, card)
    assert row.sealed_puk is not None
    return bytes(kit.portal.keys.unseal(row.sealed_puk, tasks.puk_label(card)))


# --- refused: nothing is written


async def test_another_token_in_the_reader_stays_as_it_is(
    stage: Stage, people: Staff, ada: Session, serial: str
) -> None:
    before = await objects()
    card = await approved(stage.kit, people, ada)
    view = await issuing(stage, people, card, "0123456789abcdef")
    ending = asyncio.create_task(carried_out(stage, people.olga, view, [PAST_CONSENT]))
    window = await stage.victim.windows.first()
    await window.until_said("is another one, and stays as it is")
    await window.close_by_person()
    assert await ending == "user_cancelled"
    assert (await card_row(stage.kit, card)).state == "Approved"
    assert await objects() == before
    assert await token_serial() == serial


async def test_a_wrong_puk_is_tried_once_and_changes_nothing(
    tmp_path: Path,
    https_ca: ThrowAwayCA,
    readers: TokenReaders,
    serial: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = await objects()
    async with token_stage(tmp_path, https_ca, readers, monkeypatch, puk=b"not that one") as stage:
        people, ada = await staff(stage.kit), await stage.kit.person()
        card = await approved(stage.kit, people, ada)
        assert await issue(stage, people, card, serial) == "pkcs11_puk_wrong"
        assert (await card_row(stage.kit, card)).state == "Approved"
        assert {state for _, state in await certificate_states(stage.kit)} <= {"revoked"}
    assert await objects() == before


async def test_a_card_that_is_torn_out_is_failed_and_finished_by_issuing_it_again(
    stage: Stage, people: Staff, ada: Session, serial: str, readers: TokenReaders
) -> None:
    card = await approved(stage.kit, people, ada)
    readers.plan("C_GenerateKeyPair", "pull")
    view = await issuing(stage, people, card, serial)
    ending = asyncio.create_task(carried_out(stage, people.olga, view, [PAST_CONSENT]))
    window = await stage.victim.windows.first()
    await window.until_said("the card stays half done")
    await window.close_by_person()
    assert await ending == "user_cancelled"
    assert (await card_row(stage.kit, card)).state == "Failed"
    readers.put()
    # nobody knows which PUK it has: the operator has a try spent to find out
    again = await issuing(stage, people, card, serial)
    assert await carried_out(stage, people.olga, again, [PAST_CONSENT, PAST_CONSENT]) == "finished"
    assert (await card_row(stage.kit, card)).state == "Issued"
    assert set(await certificates(await first_pin(stage.kit, card))) == {"9A"}


# --- to the end


async def test_a_card_is_issued_activated_used_and_locked(
    stage: Stage, people: Staff, ada: Session, serial: str
) -> None:
    kit = stage.kit
    kinds = ["authentication", "signature", "encryption"]
    await issued_cards.options(kit, people.root, CardsCertificates=kinds)
    card = await approved(kit, people, ada)
    assert await issue(stage, people, card, serial) == "finished"
    row = await card_row(kit, card)
    assert (row.state, row.driver, row.serial) == ("Issued", "pkcs11", serial)
    assert row.guid != token_guid(serial)
    pin = await first_pin(kit, card)
    assert set(await certificates(pin)) == SLOTS
    assert {ca for _, ca in await certificate_states(kit)} == {"held"}

    slip: list[Answer] = [PAST_CONSENT, (WRONG, None), (pin, None)]
    await done(stage, ada, await step(kit, ada, ActivateCard.name, card), slip)
    assert "The PIN is wrong" in (stage.victim.windows.opened[-1].asked[-1].warning or "")
    assert (await card_row(kit, card)).state == "Active"
    assert await certificate_states(kit) == [("Valid", "good")] * 3
    async with kit.database.read() as tx:
        assert await tx.get(CardLetter, (card, "pin")) is None

    change = await step(kit, ada, UnblockChangePin.name, card, {"Action": ["change"], "PUK": ["portal"]})
    await done(stage, ada, change, [PAST_CONSENT, (pin, NEW)])
    await done(stage, ada, await step(kit, ada, VerifyCardPin.name, card), [PAST_CONSENT, (NEW, None)])
    unblock = await step(kit, ada, UnblockChangePin.name, card, {"Action": ["unblock"], "PUK": ["portal"]})
    await done(stage, ada, unblock, [PAST_CONSENT, (None, LATER)])
    await done(stage, ada, await step(kit, ada, CheckCard.name, card), [PAST_CONSENT, (LATER, None)])
    text = await step(kit, ada, SignText.name, card, {TEXT.name: ["I agree"]})
    await done(stage, ada, text, [PAST_CONSENT, (LATER, None)])

    view = await kit.services.start_process(people.olga, ReadCardInReader.name)
    view = await kit.services.next(people.olga, view.id, view.version, {CHOICE: [NAME]})
    assert await carried_out(stage, people.olga, view, [PAST_CONSENT]) == "finished"
    shown = (await kit.services.process(people.olga, view.id)).facts
    assert (shown["Known here as"], shown["Serial number"]) == ("Badge (card)", serial)
    assert [shown[f"Certificate {number}"][:2] for number in (1, 2, 3)] == sorted(SLOTS)

    before = await certificates(LATER)
    await step(kit, people.olga, LockCard.name, card, {"Reason": ["was lost"]})
    assert await certificate_states(kit) == [("Revoked", "revoked")] * 3
    assert await certificates(LATER) == before


async def test_the_next_card_of_its_holder_has_the_encryption_key_of_the_one_before(
    stage: Stage, people: Staff, ada: Session, serial: str
) -> None:
    kit = stage.kit
    await issued_cards.options(kit, people.root, CardsCertificates=["authentication", "encryption"])
    first = await approved(kit, people, ada)
    assert await issue(stage, people, first, serial) == "finished"
    before = await certificates(await first_pin(kit, first))
    await step(kit, people.olga, LockCard.name, first, {"Reason": ["was damaged"]})
    await recovery_agreed(kit, people, ada)
    second = await approved(kit, people, ada)
    assert await issue(stage, people, second, serial) == "finished"
    pin = await first_pin(kit, second)
    after = await certificates(pin)
    assert set(after) == {"9A", "9D", "82"}
    assert after["82"] == before["9D"]
    assert "encryption, earlier" in token_readers.pkcs11_tool("--list-objects", pin=pin)
    assert await own_puk(kit, second) != await own_puk(kit, first)


async def test_a_card_whose_pin_nobody_was_told_gets_one_of_its_holder(
    stage: Stage, people: Staff, ada: Session, serial: str
) -> None:
    kit = stage.kit
    await issued_cards.options(kit, people.root, CardsPINDelivery=["nopin"], CardsPUKDelivery=["print"])
    card = await approved(kit, people, ada)
    assert await issue(stage, people, card, serial) == "finished"
    own = await own_puk(kit, card)
    assert own != SO_PIN
    await done(stage, ada, await step(kit, ada, SetFirstPin.name, card), [PAST_CONSENT, (own, NEW)])
    await done(stage, ada, await step(kit, ada, ActivateCard.name, card), [PAST_CONSENT, (NEW, None)])
    assert (await card_row(kit, card)).state == "Active"


async def test_a_temporary_card_is_encoded_extended_and_goes_to_somebody_else(
    stage: Stage, ada: Session, serial: str
) -> None:
    kit = stage.kit
    olga = await kit.person("olga@example.org", [Role.OPERATOR])
    card = await assigned(kit, olga, ada, serial)
    view = await temporary(kit, olga, ExtendTemporaryCard.name, card)
    await done(stage, olga, view, [(None, NEW)])
    first = await certificates(NEW)
    assert set(first) == {"9A", "9D"}

    view = await temporary(kit, olga, ExtendTemporaryCard.name, card)
    await done(stage, olga, view, [PAST_CONSENT, (NEW, None)])
    second = await certificates(NEW)
    assert set(second) == {"9A", "9D"}
    assert not set(first.values()) & set(second.values())
    assert sorted(await certificate_states(kit)) == [("Revoked", "revoked")] * 2 + [("Valid", "good")] * 2

    await temporary(kit, olga, WithdrawTemporaryCard.name, card, {"Reason": ["is back"]})
    ben = await kit.person("ben@example.org")
    await temporary(kit, olga, AssignTemporaryCard.name, card, {"Person": [ben.user.email]})
    view = await temporary(kit, olga, ExtendTemporaryCard.name, card)
    await done(stage, olga, view, [(None, LATER)])
    third = await certificates(LATER)
    assert set(third) == {"9A", "9D"}
    assert not set(second.values()) & set(third.values())
    async with kit.database.read() as tx:
        assert (await tx.get_one(Card, card)).state == "Assigned"
    assert serial == await token_serial()
