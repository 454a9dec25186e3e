"""Earlier encryption keys of a card's holder: whose, who agrees, what a device may leave out, then as it should be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from sqlalchemy import select

from portal.errors import FieldErrors
from portal.model import archive_options
from portal.processes import earlier_keys
from portal.processes.archive_recovery import ArchiveRecovery
from portal.processes.lock_card import LockCard
from portal.store.tables import AuditEntry, Certificate, RecoveryPermit
from portal.views import ObjectRef
from protocol import codec, jose
from protocol.messages import Certificates, Changing, Finished, KeySource, MessageParams, Undo
from protocol.orders import Exchange, Position, Side, Stage
from tests.support import issued_cards as cards
from tests.support.databases import BACKENDS
from tests.support.issued_cards import Begun, Staff
from tests.support.stored_objects import state_of_card

if TYPE_CHECKING:
    from portal.views import OptionsView, Session
    from tests.support.portal_kit import Kit

pytestmark = pytest.mark.parametrize("backend", BACKENDS[:1], indirect=True)

FACT = "Earlier encryption keys"


@pytest.fixture
async def people(kit: Kit) -> Staff:
    """Staff; cards get a key for encryption, and people may have several."""
    found = await cards.staff(kit)
    certificates = ["authentication", "encryption"]
    await cards.options(kit, found.root, CardsCertificates=certificates, CardsMultipleActive=["true"])
    return found


@pytest.fixture
async def ada(kit: Kit) -> Session:
    """Who gets the cards."""
    return await kit.person()


async def card_of_before(kit: Kit, people: Staff, person: Session, serial: str = "00 41") -> str:
    """A card whose encryption key the archive has."""
    card, _ = await cards.issued(kit, people, person, serial)
    return card


async def agree(kit: Kit, people: Staff, person: Session) -> None:
    """Two persons agree that this person's keys may leave the archive."""
    ref = ObjectRef("user", person.user.id)
    view = await kit.services.start_process(people.olga, ArchiveRecovery.name, ref)
    await kit.services.next(people.olga, view.id, view.version, {"Reason": ["old mail"]})
    seen = await kit.services.process(people.paul, view.id)
    await kit.services.next(people.paul, view.id, seen.version, {"Decision": ["agree"]})


async def archive(kit: Kit, people: Staff, **changed: list[str]) -> OptionsView:
    """Save options of the archive."""
    view = await kit.services.options(people.root, archive_options.NAME)
    form = {**archive_options.SCRIPT.as_form(view.values), **changed}
    return await kit.services.save_options(people.root, archive_options.NAME, view.version, form)


async def begun(kit: Kit, people: Staff, person: Session, serial: str = "00 42") -> Begun:
    """An order to issue this person another card."""
    return await cards.begun(kit, people.olga, await cards.approved(kit, people, person), serial=serial)


def optional(work: Begun) -> list[tuple[str, KeySource]]:
    return [(key.slot, key.source) for key in work.ordered.keys if key.optional]


async def fact(kit: Kit, people: Staff, work: Begun) -> str:
    return (await kit.services.process(people.olga, work.view.id)).facts[FACT]


async def recovered(kit: Kit) -> list[AuditEntry]:
    async with kit.database.read() as tx:
        query = select(AuditEntry).where(AuditEntry.action == "archived_key.recovered")
        return list(await tx.scalars(query))


async def permits(kit: Kit) -> list[str | None]:
    """The orders that have used up the agreements there are."""
    async with kit.database.read() as tx:
        return list(await tx.scalars(select(RecoveryPermit.used_by)))


# --- nobody has agreed, or about somebody else


async def test_without_an_agreement_none_goes_on_to_the_card_and_it_is_said(
    kit: Kit, people: Staff, ada: Session
) -> None:
    await card_of_before(kit, people, ada)
    work = await begun(kit, people, ada)
    assert optional(work) == []
    assert "two persons have to agree first" in await fact(kit, people, work)
    await cards.complete(work)
    assert await recovered(kit) == []


async def test_an_agreement_about_another_person_counts_for_nobody_else(
    kit: Kit, people: Staff, ada: Session
) -> None:
    eve = await kit.person("eve@example.org")
    await card_of_before(kit, people, ada)
    await card_of_before(kit, people, eve, "00 40")
    await agree(kit, people, eve)
    assert optional(await begun(kit, people, ada)) == []
    assert optional(await begun(kit, people, eve, "00 43")) == [("82", KeySource.IMPORT)]


async def test_an_agreement_that_is_over_by_then_ends_the_order(
    kit: Kit, people: Staff, ada: Session
) -> None:
    await card_of_before(kit, people, ada)
    await agree(kit, people, ada)
    work = await begun(kit, people, ada)
    assert optional(work) == [("82", KeySource.IMPORT)]
    async with kit.database.write() as tx:
        for permit in await tx.scalars(select(RecoveryPermit)):
            permit.expires_at = kit.clock() - 1
    assert work.agent.order is not None
    await work.agent.say(Changing())
    await work.agent.say(work.agent.card.requests(work.agent.order))
    undo = await work.agent.hear()
    assert isinstance(undo, Undo), undo
    assert undo.error.error == "recovery_not_approved"
    assert await recovered(kit) == []


async def test_the_archives_options_say_who_has_to_agree(kit: Kit, people: Staff, ada: Session) -> None:
    """What needs two persons for its owner needs them in a reader; as they are installed the reader does alone."""
    await card_of_before(kit, people, ada)
    with pytest.raises(FieldErrors) as caught:
        await archive(kit, people, RecoverTwoPersons=["true"], RecoverInReaderTwoPersons=[])
    assert list(caught.value.errors) == ["RecoverInReaderTwoPersons"]
    view = await archive(kit, people, RecoverInReaderTwoPersons=[])
    assert set(view.warnings) == {"RecoverTwoPersons", "RecoverInReaderTwoPersons"}
    work = await begun(kit, people, ada)
    assert optional(work) == [("82", KeySource.IMPORT)]
    await cards.complete(work)
    assert [row.details["permit"] for row in await recovered(kit)] == [""]
    assert (await fact(kit, people, work)).startswith("1 of 1 are on the card")


async def test_two_persons_are_asked_for_again_when_the_keys_leave(
    kit: Kit, people: Staff, ada: Session
) -> None:
    await card_of_before(kit, people, ada)
    await archive(kit, people, RecoverInReaderTwoPersons=[])
    work = await begun(kit, people, ada)
    await archive(kit, people, RecoverInReaderTwoPersons=["true"])
    assert work.agent.order is not None
    await work.agent.say(Changing())
    await work.agent.say(work.agent.card.requests(work.agent.order))
    undo = await work.agent.hear()
    assert isinstance(undo, Undo), undo
    assert undo.error.error == "recovery_not_approved"
    assert await recovered(kit) == []


async def test_a_person_without_earlier_keys_needs_no_agreement(
    kit: Kit, people: Staff, ada: Session
) -> None:
    work = await begun(kit, people, ada)
    assert FACT not in (await kit.services.process(people.olga, work.view.id)).facts


async def test_a_card_that_gets_no_key_for_encryption_gets_no_earlier_one(
    kit: Kit, people: Staff, ada: Session
) -> None:
    await card_of_before(kit, people, ada)
    await agree(kit, people, ada)
    await cards.options(kit, people.root, CardsCertificates=["authentication"])
    assert optional(await begun(kit, people, ada)) == []


# --- what a device says


async def test_what_has_to_be_on_the_card_is_not_declined(kit: Kit, people: Staff, ada: Session) -> None:
    await card_of_before(kit, people, ada)
    await agree(kit, people, ada)
    work = await begun(kit, people, ada)
    assert work.agent.order is not None
    asking = work.agent.card.requests(work.agent.order)
    await work.agent.say(Changing())
    await work.agent.say(msgspec.structs.replace(asking, declined=["9D"]))
    undo = await work.agent.hear()
    assert isinstance(undo, Undo), undo
    assert undo.error.error == "params_invalid"


async def test_a_missing_proof_of_what_has_to_be_is_one_still(kit: Kit, people: Staff, ada: Session) -> None:
    await card_of_before(kit, people, ada)
    await agree(kit, people, ada)
    work = await begun(kit, people, ada)
    answer = await cards.certified(work)
    whole = cards.receipt(work, answer)
    await work.agent.say(
        msgspec.structs.replace(whole, proofs=[item for item in whole.proofs if item.slot != "9D"])
    )
    undo = await work.agent.hear()
    assert isinstance(undo, Undo), undo
    assert undo.error.error == "proof_invalid"


async def test_a_card_that_takes_no_keys_gets_none_and_uses_no_agreement_up(
    kit: Kit, people: Staff, ada: Session
) -> None:
    await card_of_before(kit, people, ada)
    await agree(kit, people, ada)
    work = await begun(kit, people, ada)
    work.agent.card.imports = False
    answer = await cards.certified(work)
    assert [item.slot for item in answer.certificates] == ["9A", "9D"]
    await work.agent.say(cards.receipt(work, answer))
    assert isinstance(await work.agent.hear(), Finished)
    assert await recovered(kit) == []
    assert await permits(kit) == [None]
    assert "0 of 1 are on the card" in await fact(kit, people, work)


async def test_a_key_that_found_no_room_is_said_to_have_stayed_in_the_archive(
    kit: Kit, people: Staff, ada: Session
) -> None:
    await card_of_before(kit, people, ada, "00 40")
    await card_of_before(kit, people, ada)
    await agree(kit, people, ada)
    work = await begun(kit, people, ada)
    assert optional(work) == [("82", KeySource.IMPORT), ("83", KeySource.IMPORT)]
    answer = await cards.certified(work)
    taken = [item for item in answer.certificates if item.slot != "83"]
    await work.agent.say(cards.receipt(work, Certificates(certificates=taken)))
    assert isinstance(await work.agent.hear(), Finished)
    assert "1 of 2 are on the card" in await fact(kit, people, work)


# --- as it should be


async def test_earlier_keys_go_on_to_the_card_newest_first_by_one_agreement(
    kit: Kit, people: Staff, ada: Session
) -> None:
    first = await card_of_before(kit, people, ada, "00 40")
    second = await card_of_before(kit, people, ada)
    await agree(kit, people, ada)
    work = await begun(kit, people, ada)
    answer = await cards.certified(work)
    async with kit.database.read() as tx:
        found = list(await tx.scalars(select(Certificate).where(Certificate.profile == "encryption")))
    brought = {item.slot: item for item in answer.certificates if item.slot in ("82", "83")}
    assert {item.certificate for item in brought.values()} < {item.der for item in found}
    assert all(item.key is not None and item.challenge is not None for item in brought.values())
    await work.agent.say(cards.receipt(work, answer))
    assert isinstance(await work.agent.hear(), Finished)
    assert work.agent.order is not None
    assert await permits(kit) == [work.agent.order.jti]
    assert {entry.details["order"] for entry in await recovered(kit)} == {work.agent.order.jti}
    assert "2 of 2 are on the card" in await fact(kit, people, work)
    assert [await state_of_card(kit, card) for card in (first, second)] == ["Issued"] * 2
    assert optional(await begun(kit, people, ada, "00 44")) == []  # another card needs another agreement


async def test_certificates_of_other_cards_stay_what_they_are_when_the_card_is_locked(
    kit: Kit, people: Staff, ada: Session
) -> None:
    first = await card_of_before(kit, people, ada)
    await agree(kit, people, ada)
    work = await begun(kit, people, ada)
    await cards.complete(work)
    await cards.step(kit, people.olga, LockCard.name, work.ordered.card, {"Reason": ["lost"]})
    await kit.portal.revocations.run_due()
    assert await state_of_card(kit, first) == "Issued"
    async with kit.database.read() as tx:
        rows = list(await tx.scalars(select(Certificate)))
    revoked = {row.order_jti for row in rows if row.state == "Revoked"}
    assert work.agent.order is not None
    assert revoked == {work.agent.order.jti}


# --- the message that brings them


@pytest.mark.parametrize(("algorithm", "least"), [("RSA-2048", 9), ("P-256", 20)])
async def test_what_is_chosen_fits_into_one_message(
    kit: Kit, people: Staff, ada: Session, algorithm: str, least: int
) -> None:
    await cards.options(kit, people.root, CardsKeyAlgorithm=[algorithm])
    work = await begun(kit, people, ada)
    answer = await cards.certified(work)
    [encrypted] = [item for item in answer.certificates if item.slot == "9D"]
    async with kit.database.read() as tx:
        rows = list(await tx.scalars(select(Certificate).where(Certificate.slot == "9D")))
    chosen = earlier_keys.fitting(rows * 20)
    assert least <= len(chosen) <= 20
    others = [msgspec.structs.replace(encrypted, slot="9A", key=None, challenge=None)] * 2
    body = Certificates(certificates=[*others, encrypted, *[encrypted] * len(chosen)])
    signing = jose.SigningKey.generate()
    assert work.agent.order is not None
    token = Exchange(
        work.agent.order.jti, Side.PORTAL, signing, [signing.public], Position(stage=Stage.REQUESTED)
    ).send(body)
    assert codec.convert({"message": token}, MessageParams, malformed="internal").message == token
    assert len(codec.encode(MessageParams(message=token))) <= codec.MAX_FRAME_BYTES - 200
