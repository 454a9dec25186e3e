"""*Issue card* where cards have to prove that they made their keys: refused, then issued and attested."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest
from sqlalchemy import select

from portal.ca.attestation import Roots, roots
from portal.encoding.piv_rules import Part
from portal.processes import card_descriptions, encodings
from portal.processes.card_descriptions import CardDescription
from portal.store.tables import CaIntent, Card
from portal.views import ObjectRef
from protocol.errors import InlayError
from protocol.messages import Certificates, Changing, Finished, Requests, Undo
from tests.support import issued_cards as cards
from tests.support.attesting_maker import Maker, der
from tests.support.issued_cards import ISSUE, Begun, Staff
from tests.support.stored_objects import state_of_card

if TYPE_CHECKING:
    from portal.views import Session
    from tests.support.portal_kit import Kit

MAKER: Final = Maker()


@pytest.fixture
async def people(kit: Kit) -> Staff:
    """Staff, with the option that cards prove their keys, and a maker who is trusted."""
    trust(kit, roots([MAKER.root]))
    found = await cards.staff(kit)
    await cards.options(kit, found.root, CardsAttestation=["required"])
    return found


@pytest.fixture
async def ada(kit: Kit) -> Session:
    """Who gets the card."""
    return await kit.person()


def trust(kit: Kit, makers: Roots) -> None:
    object.__setattr__(kit.portal.context, "roots", makers)


def stated(work: Begun, maker: Maker = MAKER, **changes: Any) -> Requests:
    """The requests of the card, with what it states of its keys."""
    assert work.agent.order is not None
    asking = work.agent.card.requests(work.agent.order)
    given = []
    for item in asking.requests:
        public = work.agent.card.keys[item.slot].public_key()
        statement = maker.statement(item.slot, public, **changes)
        given.append(msgspec.structs.replace(item, attestation=statement))
    return msgspec.structs.replace(asking, requests=given, attestation_issuer=der(maker.issuer))


async def test_without_a_maker_it_isnt_begun(kit: Kit, people: Staff, ada: Session) -> None:
    card = await cards.approved(kit, people, ada)
    trust(kit, Roots())
    with pytest.raises(InlayError) as caught:
        await kit.services.start_process(people.olga, ISSUE, ObjectRef("card", card))
    assert caught.value.code == "attestation_no_roots"


async def test_a_serial_number_that_no_card_can_prove_makes_no_order(
    kit: Kit, people: Staff, ada: Session
) -> None:
    card = await cards.approved(kit, people, ada)
    with pytest.raises(InlayError) as caught:
        await cards.step(kit, people.olga, ISSUE, card, {"Serial": ["F0042"]})
    assert caught.value.code == "attestation_no_serial"


async def test_a_card_through_pkcs11_is_refused_with_the_option_that_is_in_its_way(
    kit: Kit, people: Staff, ada: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = await cards.approved(kit, people, ada)
    async with kit.database.write() as tx:
        row = await tx.get_one(Card, card)
        row.driver, row.described_by = "pkcs11", "Maker"
    described = CardDescription("Maker", b"12345678", {Part.ISSUE: encodings.ISSUE_CARD})
    monkeypatch.setattr(card_descriptions, "of", lambda _context, _card: described)
    with pytest.raises(InlayError) as caught:
        await kit.services.start_process(people.olga, ISSUE, ObjectRef("card", card))
    assert caught.value.code == "card_pkcs11_no_attestation"
    assert caught.value.fields == {"option": "CardsAttestation"}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        (None, "attestation_missing"),
        ({"maker": Maker()}, "attestation_untrusted"),
        ({"serial": 43}, "attestation_other_card"),
    ],
)
async def test_a_device_that_lies_or_says_nothing_gets_no_certificate(
    kit: Kit, people: Staff, ada: Session, changes: dict[str, Any] | None, code: str
) -> None:
    work = await cards.begun(kit, people.olga, await cards.approved(kit, people, ada))
    assert work.agent.order is not None
    await work.agent.say(Changing())
    plain = work.agent.card.requests(work.agent.order)
    await work.agent.say(plain if changes is None else stated(work, **changes))
    undo = await work.agent.hear()
    assert isinstance(undo, Undo), undo
    assert undo.error.error == code
    async with kit.database.read() as tx:
        assert list(await tx.scalars(select(CaIntent))) == []


async def test_a_card_that_proves_its_keys_is_issued_and_attested(
    kit: Kit, people: Staff, ada: Session
) -> None:
    card = await cards.approved(kit, people, ada)
    work = await cards.begun(kit, people.olga, card)
    assert work.ordered.attest == "required"
    facts = (await kit.services.process(people.olga, work.view.id)).facts
    assert facts["Attestation"] == "the card has to prove that it made its keys"
    await work.agent.say(Changing())
    await work.agent.say(stated(work))
    answer = await work.agent.hear()
    assert isinstance(answer, Certificates), answer
    await work.agent.say(cards.receipt(work, answer))
    assert isinstance(await work.agent.hear(), Finished)
    assert await state_of_card(kit, card) == "Issued"
    assert (await cards.card_row(kit, card)).attested


async def test_a_key_that_was_made_because_the_card_takes_none_has_to_be_proved_too(
    kit: Kit, people: Staff, ada: Session
) -> None:
    await cards.options(kit, people.root, CardsCertificates=["authentication", "encryption"])
    work = await cards.begun(kit, people.olga, await cards.approved(kit, people, ada))
    work.agent.card.imports = False
    await work.agent.say(Changing())
    asking = stated(work)
    unproved = [
        msgspec.structs.replace(item, attestation=None if item.slot == "9D" else item.attestation)
        for item in asking.requests
    ]
    await work.agent.say(msgspec.structs.replace(asking, requests=unproved))
    undo = await work.agent.hear()
    assert isinstance(undo, Undo), undo
    assert undo.error.error == "attestation_missing"


async def test_asked_for_by_nobody_nothing_is_ordered(kit: Kit, people: Staff, ada: Session) -> None:
    await cards.options(kit, people.root, CardsAttestation=["no"])
    work = await cards.begun(kit, people.olga, await cards.approved(kit, people, ada))
    assert work.ordered.attest == "no"
    await cards.complete(work)
    assert not (await cards.card_row(kit, work.ordered.card)).attested
